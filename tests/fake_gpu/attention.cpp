// torch's fused attention on the CUDA side: it is no operation of the CPU's by the same name, so it is computed here.
// B batch, H heads, M and N tokens, K width of a head.
#include "kernels.h"

#include <cmath>

namespace fake_gpu {
namespace {

using at::Tensor;
using c10::SymInt;
using Scale = std::optional<double>;
using Bias = std::optional<Tensor>;  // What is added to the logits.

double factor(const Tensor& q, Scale scale) { return scale.value_or(1 / std::sqrt(double(q.size(-1)))); }

// Heads of keys and values that several heads of queries share, once for each.
Tensor for_heads_of(const Tensor& q, const Tensor& kv) { return kv.repeat_interleave(q.size(1) / kv.size(1), 1); }

Tensor logits(const Tensor& q, const Tensor& k, const Bias& bias, bool causal, Scale scale) {  // [B, H, M, N], on the host
  Tensor made = at::matmul(q, k.transpose(-2, -1)) * factor(q, scale);
  if (causal) made.masked_fill_(at::ones({q.size(-2), k.size(-2)}, at::kBool).tril().logical_not(), -INFINITY);
  return bias && bias->defined() ? made + on_host(*bias).to(at::kFloat) : made;
}

Tensor single(const Tensor& tensor) { return on_host(tensor).to(at::kFloat); }

// In memory [B, M, H, K], as CUDA's kernels lay it out.
Tensor as_laid_out(const Tensor& tensor, const Tensor& like) {
  return to_card(tensor.to(like.scalar_type()).transpose(1, 2).contiguous()).transpose(1, 2);
}

Tensor sum_to(Tensor gradient, const Tensor& bias) {
  while (gradient.dim() > bias.dim()) gradient = gradient.sum(0);
  for (int64_t i = 0; i < bias.dim(); i++)
    if (bias.size(i) == 1 && gradient.size(i) != 1) gradient = gradient.sum(i, true);
  return to_card(gradient.to(bias.scalar_type()));
}

std::tuple<Tensor, Tensor, Tensor, Tensor> efficient(const Tensor& q, const Tensor& k, const Tensor& v, const Bias& bias,
                                                     bool, double dropout, bool causal, Scale scale) {
  check_devices("aten::_scaled_dot_product_efficient_attention",
                {{"query", q}, {"key", k}, {"value", v}, {"attn_bias", bias.value_or(Tensor())}});
  TORCH_CHECK(!dropout, "Pretended card: no dropout in attention");
  at::AutoDispatchBelowADInplaceOrView below_autograd;
  Tensor l = logits(single(q), for_heads_of(q, single(k)), bias, causal, scale);
  Tensor number = at::zeros({}, at::kLong);
  return {as_laid_out(at::matmul(l.softmax(-1), for_heads_of(q, single(v))), q), to_card(l.logsumexp(-1)), to_card(number), to_card(number)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> gradients(const Tensor& gradient, const Tensor& q, const Tensor& k,
                                                     const Tensor& v, const Bias& bias, bool causal, Scale scale,
                                                     bool of_bias) {
  TORCH_CHECK(q.size(1) == k.size(1), "Pretended card: no gradients where heads of queries share keys");
  at::AutoDispatchBelowADInplaceOrView below_autograd;
  Tensor g = single(gradient), p = logits(single(q), single(k), bias, causal, scale).softmax(-1);
  Tensor dp = at::matmul(g, single(v).transpose(-2, -1));
  Tensor dl = p * (dp - (dp * p).sum(-1, true));
  double s = factor(q, scale);
  return {as_laid_out(at::matmul(dl, single(k)) * s, q), as_laid_out(at::matmul(dl.transpose(-2, -1), single(q)) * s, k),
          as_laid_out(at::matmul(p.transpose(-2, -1), g), v),
          of_bias && bias && bias->defined() ? sum_to(dl, *bias) : Tensor()};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> efficient_backward(
    const Tensor& gradient, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias, const Tensor&,
    const Tensor&, const Tensor&, const Tensor&, double, std::array<bool, 4> wanted, bool causal, Scale scale) {
  return gradients(gradient, q, k, v, bias, causal, scale, wanted[3]);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, SymInt, SymInt, Tensor, Tensor, Tensor> flash(
    const Tensor& q, const Tensor& k, const Tensor& v, double dropout, bool causal, bool, Scale scale) {
  TORCH_CHECK(q.scalar_type() == at::kHalf || q.scalar_type() == at::kBFloat16, "FlashAttention only supports fp16 and bf16");
  auto [out, sums, seed, offset] = efficient(q, k, v, Bias(), true, dropout, causal, scale);
  Tensor empty = at::empty({0}, out.options());
  return {out, sums, Tensor(), Tensor(), q.sym_size(2), k.sym_size(2), to_card(at::zeros({2}, at::kLong)), empty, empty};
}

std::tuple<Tensor, Tensor, Tensor> flash_backward(const Tensor& gradient, const Tensor& q, const Tensor& k, const Tensor& v,
                                                  const Tensor&, const Tensor&, const Tensor&, const Tensor&, SymInt, SymInt,
                                                  double, bool causal, const Tensor&, const Tensor&, Scale scale) {
  auto [dq, dk, dv, _] = gradients(gradient, q, k, v, Bias(), causal, scale, false);
  return {dq, dk, dv};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, SymInt, SymInt, Tensor, Tensor, Tensor> cudnn(
    const Tensor& q, const Tensor& k, const Tensor& v, const Bias& bias, bool, double dropout, bool causal, bool, Scale scale) {
  auto [out, sums, seed, offset] = efficient(q, k, v, bias, true, dropout, causal, scale);
  return {out, sums, Tensor(), Tensor(), q.sym_size(2), k.sym_size(2), seed, offset, Tensor()};
}

std::tuple<Tensor, Tensor, Tensor> cudnn_backward(const Tensor& gradient, const Tensor& q, const Tensor& k, const Tensor& v,
                                                  const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                                  const Tensor& bias, const Tensor&, const Tensor&, SymInt, SymInt, double,
                                                  bool causal, Scale scale) {
  auto [dq, dk, dv, _] = gradients(gradient, q, k, v, bias.defined() ? Bias(bias) : Bias(), causal, scale, false);
  return {dq, dk, dv};
}

}  // namespace

void register_attention(torch::Library& library) {
  auto implement = [&library](const char* name, auto function) {
    library.impl(name, torch::dispatch(c10::DispatchKey::CUDA, function));
  };
  implement("_scaled_dot_product_efficient_attention", TORCH_FN(efficient));
  implement("_scaled_dot_product_efficient_attention_backward", TORCH_FN(efficient_backward));
  implement("_scaled_dot_product_flash_attention", TORCH_FN(flash));
  implement("_scaled_dot_product_flash_attention_backward", TORCH_FN(flash_backward));
  implement("_scaled_dot_product_cudnn_attention", TORCH_FN(cudnn));
  implement("_scaled_dot_product_cudnn_attention_backward", TORCH_FN(cudnn_backward));
}

}  // namespace fake_gpu
