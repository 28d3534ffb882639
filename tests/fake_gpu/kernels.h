// What the replaced operations share.
#pragma once
#include <ATen/ATen.h>
#include <torch/library.h>

#include <string>
#include <utility>
#include <vector>

extern "C" void fake_gpu_tell(const char* kind, const char* operation, long long bytes);  // In runtime.cpp.

namespace fake_gpu {

using Named = std::pair<std::string, at::Tensor>;  // An argument's name, and what it is given.

inline bool on_card(const at::Tensor& tensor) { return tensor.defined() && tensor.device().is_cuda(); }

// The same memory as a tensor of the CPU, and a copy of a CPU's tensor in the card's memory.
at::Tensor on_host(const at::Tensor& tensor);
at::Tensor to_card(const at::Tensor& tensor);

// Raises what CUDA raises for tensors on two devices.
void check_devices(const std::string& operation, const std::vector<Named>& tensors);

void register_attention(torch::Library& library);

}  // namespace fake_gpu
