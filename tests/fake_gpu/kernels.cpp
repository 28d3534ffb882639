// Every CUDA operation of torch, replaced: the CPU's runs on the same memory, after the checks that CUDA makes.
#include "kernels.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/Resize.h>

#include <mutex>
#include <optional>
#include <unordered_map>
#include <unordered_set>

using at::Tensor;
using c10::IValue;

namespace fake_gpu {

Tensor on_host(const Tensor& tensor) {
  TORCH_CHECK(tensor.layout() == c10::kStrided, "Pretended card: no tensors of layout ", tensor.layout());
  auto options = at::TensorOptions().dtype(tensor.dtype()).device(at::kCPU);
  if (!tensor.numel()) return at::empty_strided(tensor.sizes(), tensor.strides(), options);
  auto storage = tensor.storage();  // Kept for as long as the alias is.
  auto* memory = static_cast<char*>(const_cast<void*>(storage.data())) + tensor.storage_offset() * tensor.element_size();
  auto alias = at::from_blob(memory, tensor.sizes(), tensor.strides(), [storage](void*) {}, options);
  if (tensor.is_conj()) alias = at::_conj(alias);
  if (tensor.is_neg()) alias = at::_neg_view(alias);
  return alias;
}

Tensor to_card(const Tensor& tensor) {
  Tensor dense = tensor.is_non_overlapping_and_dense() ? tensor : tensor.contiguous();
  auto options = at::TensorOptions().dtype(dense.dtype()).device(at::Device(at::kCUDA, 0));
  Tensor copy = at::empty_strided(dense.sizes(), dense.strides(), options);
  if (dense.numel()) std::memcpy(const_cast<void*>(copy.storage().data()), dense.const_data_ptr(), dense.nbytes());
  return copy;
}

namespace {

using Names = std::unordered_set<std::string>;

// Of both devices at once: copies, and indices on the host.
const Names TAKE_BOTH = {"aten::copy_", "aten::_copy_from", "aten::index.Tensor", "aten::index.Tensor_out",
                         "aten::index_put_", "aten::_index_put_impl_", "aten::index_put", "aten::_unsafe_index.Tensor",
                         "aten::_unsafe_index_put"};
// The host waits for their result, or for the size of it.
const Names WAIT = {"aten::_local_scalar_dense", "aten::nonzero", "aten::nonzero.out", "aten::masked_select",
                    "aten::masked_select.out", "aten::equal", "aten::_unique", "aten::_unique2", "aten::unique_dim",
                    "aten::unique_consecutive", "aten::unique_dim_consecutive", "aten::bincount",
                    "aten::repeat_interleave.Tensor", "aten::linalg_inv_ex.inverse"};
// Those that wait if an index is a mask.
const Names WAIT_FOR_MASKS = {"aten::index.Tensor", "aten::_index_put_impl_", "aten::index_put_"};
// The CPU is slow at them in half precision; they are done in single.
const Names SLOW_IN_HALF = {"aten::convolution", "aten::convolution_backward", "aten::mm", "aten::bmm", "aten::addmm",
                            "aten::baddbmm"};
// Work as they are: shapes, memory and attention.
const Names KEPT = {"aten::view", "aten::view.dtype", "aten::as_strided", "aten::_reshape_alias", "aten::unfold",
                    "aten::view_as_real", "aten::view_as_complex", "aten::alias", "aten::_conj", "aten::_neg_view",
                    "aten::set_", "aten::set_.source_Storage", "aten::set_.source_Storage_storage_offset",
                    "aten::set_.source_Tensor", "aten::resize_", "aten::empty.memory_format", "aten::empty_strided",
                    "aten::record_stream", "aten::is_set_to", "aten::_pin_memory", "aten::is_pinned",
                    "aten::_has_same_storage_numel", "aten::_efficientzerotensor", "aten::_assert_async",
                    "aten::_assert_async.msg", "aten::_fused_sdp_choice",
                    "aten::_scaled_dot_product_efficient_attention",
                    "aten::_scaled_dot_product_efficient_attention_backward",
                    "aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_flash_attention_backward",
                    "aten::_scaled_dot_product_cudnn_attention", "aten::_scaled_dot_product_cudnn_attention_backward"};
// Have a CUDA kernel that is not found under CUDA's own key.
const Names REPLACED_TOO = {"aten::convolution", "aten::convolution_backward", "aten::copy_"};

std::string full_name(const std::string& name, const std::string& overload) {
  return overload.empty() ? name : name + "." + overload;
}

// What a CUDA generator would draw from next, as a generator of the CPU; the former goes on.
at::Generator host_generator(const IValue& given) {
  at::Generator own = given.isNone() ? at::globalContext().defaultGenerator(at::Device(at::kCUDA, 0)) : given.toGenerator();
  TORCH_CHECK(own.device().is_cuda(), "Expected a 'cuda' device type for generator but found '", own.device(), "'");
  std::lock_guard<std::mutex> guard(own.mutex());
  at::Generator drawn = at::globalContext().defaultGenerator(at::kCPU).clone();
  drawn.set_current_seed(own.current_seed() * 1000003u + own.get_offset() + 17);
  own.set_offset(own.get_offset() + 4);
  return drawn;
}

// One call of an operation: its arguments exchanged for the host's, its results for the card's.
class Call {
 public:
  Call(const c10::OperatorHandle& operation, torch::jit::Stack* stack)
      : operation_(operation), schema_(operation.schema()), stack_(stack),
        name_(full_name(schema_.name(), schema_.overload_name())), in_single_(false) {
    arguments_.assign(stack->end() - schema_.arguments().size(), stack->end());
    for (size_t i = 0; i < arguments_.size(); i++) collect(schema_.arguments()[i].name(), arguments_[i]);
    if (SLOW_IN_HALF.count(name_))
      for (auto& [_, tensor] : tensors_) in_single_ |= tensor.defined() && tensor.scalar_type() == at::kHalf;
  }

  void run() {
    check_devices(name_, tensors_);
    tell_of_waits();
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    const size_t begin = stack_->size() - arguments_.size();
    for (size_t i = 0; i < arguments_.size(); i++) (*stack_)[begin + i] = for_host(i);
    operation_.callBoxed(stack_);
    take_over_resized();
    for (size_t i = stack_->size() - schema_.returns().size(); i < stack_->size(); i++) (*stack_)[i] = for_card((*stack_)[i]);
  }

 private:
  struct Alias { Tensor original, alias; };

  void collect(const std::string& argument, const IValue& value) {
    if (value.isTensor()) tensors_.emplace_back(argument, value.toTensor());
    else if (value.isTensorList()) for (const Tensor& each : value.toTensorList()) tensors_.emplace_back(argument, each);
    else if (value.isOptionalTensorList())
      for (const std::optional<Tensor>& each : value.toOptionalTensorList()) if (each) tensors_.emplace_back(argument, *each);
  }

  void tell_of_waits() const {
    if (WAIT.count(name_)) fake_gpu_tell("wait", name_.c_str(), tensors_.empty() ? 0 : tensors_[0].second.nbytes());
    if (WAIT_FOR_MASKS.count(name_))
      for (auto& [argument, tensor] : tensors_)
        if (argument == "indices" && (tensor.scalar_type() == at::kBool || tensor.scalar_type() == at::kByte))
          fake_gpu_tell("wait", (name_ + " by mask").c_str(), tensor.nbytes());
    if (name_ != "aten::copy_" || on_card(tensors_[0].second) == on_card(tensors_[1].second)) return;
    std::string kind = on_card(tensors_[0].second) ? "to card" : "to host";
    if (arguments_[2].toBool()) kind += ", not waited for";
    fake_gpu_tell(kind.c_str(), name_.c_str(), tensors_[0].second.nbytes());
  }

  IValue for_host(size_t i) {
    const IValue& value = arguments_[i];
    if (value.isTensor()) return alias_of(value.toTensor());
    if (value.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& each : value.toTensorList()) list.push_back(alias_of(each));
      return list;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> list;
      for (const std::optional<Tensor>& each : value.toOptionalTensorList())
        list.push_back(each ? std::optional<Tensor>(alias_of(*each)) : std::nullopt);
      return list;
    }
    if (value.isDevice() && value.toDevice().is_cuda()) return at::Device(at::kCPU);
    if (!value.isNone() && !value.isGenerator()) return value;
    if (schema_.arguments()[i].type()->str().find("Generator") == std::string::npos) return value;
    bool here = tensors_.empty();
    for (auto& [_, tensor] : tensors_) here |= on_card(tensor);
    return here ? IValue(host_generator(value)) : value;
  }

  Tensor alias_of(const Tensor& tensor) {
    if (!on_card(tensor)) return tensor;
    if (in_single_) return on_host(tensor).to(at::kFloat);
    aliases_.push_back({tensor, on_host(tensor)});
    number_[aliases_.back().alias.unsafeGetTensorImpl()] = aliases_.size() - 1;
    return aliases_.back().alias;
  }

  // An `out` that the operation gave another size lies in memory of its own now.
  void take_over_resized() {
    for (auto& [original, alias] : aliases_) {
      if (alias.sizes() == original.sizes() && (original.numel() || !alias.numel())) continue;
      at::native::resize_output(original, alias.sizes());
      if (alias.numel()) on_host(original).copy_(alias);
    }
  }

  IValue for_card(const IValue& value) const {
    if (value.isTensor()) return original_of(value.toTensor());
    if (!value.isTensorList()) return value;
    c10::List<Tensor> list;
    for (const Tensor& each : value.toTensorList()) list.push_back(original_of(each));
    return list;
  }

  Tensor original_of(const Tensor& tensor) const {
    if (!tensor.defined()) return tensor;
    auto found = number_.find(tensor.unsafeGetTensorImpl());
    if (found != number_.end()) return aliases_[found->second].original;
    for (auto& [_, alias] : aliases_)
      TORCH_CHECK(!tensor.numel() || !alias.numel() || tensor.storage().data() != alias.storage().data(),
                  "Pretended card: ", name_, " returned a view");
    return tensor.device().is_cpu() ? to_card(in_single_ ? tensor.to(at::kHalf) : tensor) : tensor;
  }

  const c10::OperatorHandle& operation_;
  const c10::FunctionSchema& schema_;
  torch::jit::Stack* stack_;
  const std::string name_;
  bool in_single_;
  std::vector<IValue> arguments_;
  std::vector<Named> tensors_;
  std::vector<Alias> aliases_;
  std::unordered_map<const void*, size_t> number_;  // Of an alias, in aliases_.
};

void replaced(const c10::OperatorHandle& operation, c10::DispatchKeySet, torch::jit::Stack* stack) {
  Call(operation, stack).run();
}

class Silent : public c10::WarningHandler {  // To replace is what torch warns of.
  void process(const c10::Warning&) override {}
};

}  // namespace

void check_devices(const std::string& operation, const std::vector<Named>& tensors) {
  bool card = false;
  for (auto& [_, tensor] : tensors) card |= on_card(tensor);
  if (!card) return;
  for (auto& [argument, tensor] : tensors) {
    if (!tensor.defined() || on_card(tensor)) continue;
    std::string where = operation + "(" + argument + ")";
    if (!tensor.dim()) { fake_gpu_tell("scalar", where.c_str(), tensor.element_size()); continue; }
    if (operation == "aten::copy_") continue;
    TORCH_CHECK(TAKE_BOTH.count(operation), "Expected all tensors to be on the same device, but got ", argument, " is on ",
                tensor.device(), ", different from other tensors on cuda:0 (when checking argument in method ", operation, ")");
    fake_gpu_tell("to card", where.c_str(), tensor.nbytes());
  }
}

}  // namespace fake_gpu

extern "C" void fake_gpu_replace_kernels() {
  using namespace fake_gpu;
  static auto library = torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::CUDA, __FILE__, __LINE__);
  Silent silent;
  c10::WarningUtils::WarningHandlerGuard guard(&silent);
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const auto& name : dispatcher.getAllOpNames()) {
    auto operation = dispatcher.findOp(name);
    std::string full = full_name(name.name, name.overload_name);
    if (full.rfind("aten::", 0) || !operation || !operation->hasSchema() || KEPT.count(full)) continue;
    if (!operation->hasKernelForDispatchKey(c10::DispatchKey::CUDA) && !REPLACED_TOO.count(full)) continue;
    library.impl(full.substr(6).c_str(), torch::CppFunction::makeFromBoxedFunction<&replaced>());
  }
  register_attention(library);
}
