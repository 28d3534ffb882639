// The CUDA runtime of a card that is not there. Preloaded before libcudart, so that torch's own caching allocator,
// streams, events and generators work on it. Device memory is host memory, every call has ended when it returns, and
// there are no kernels: kernels.cpp replaces torch's, and is loaded when a program first asks how many cards there are.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace {

long option(const char* name, long otherwise) {
  const char* value = getenv(name);
  return value ? atol(value) : otherwise;
}

const size_t TOTAL = size_t(option("FAKE_GPU_MIB", 8192)) << 20;
const size_t CONTEXT = size_t(300) << 20;  // What a CUDA context takes of a card's memory.
const int CAPABILITY = option("FAKE_GPU_CC", 86);
const int VERSION = CUDART_VERSION;

using Ranges = std::map<uintptr_t, size_t>;  // Beginning and bytes.
std::mutex memory_mutex;
Ranges device_memory, reserved_memory, pinned_memory;
size_t used = 0;

bool take(size_t bytes) {
  if (used + bytes + CONTEXT > TOTAL) return false;
  used += bytes;
  return true;
}

thread_local cudaError_t last_error = cudaSuccess;
cudaError_t failed(cudaError_t error) { return last_error = error; }

bool inside(const Ranges& ranges, const void* pointer) {
  auto next = ranges.upper_bound(uintptr_t(pointer));
  if (next == ranges.begin()) return false;
  auto range = std::prev(next);
  return uintptr_t(pointer) < range->first + range->second;
}

cudaError_t host_memory(void** pointer, size_t bytes, size_t alignment, Ranges& ranges) {
  *pointer = nullptr;
  if (posix_memalign(pointer, alignment, bytes ? bytes : alignment)) return failed(cudaErrorMemoryAllocation);
  ranges[uintptr_t(*pointer)] = bytes;
  return cudaSuccess;
}

// A new stream or event: nothing but a number that no other has.
template <typename Handle>
cudaError_t numbered(Handle* handle) {
  static std::atomic<uintptr_t> number{0x1000};
  *handle = Handle(number += 16);
  return cudaSuccess;
}

cudaError_t launched(const void* kernel) {
  fprintf(stderr, "Pretended card: a CUDA kernel (%p) was launched, which there is none of: its operation is not replaced\n",
          kernel);
  return failed(cudaErrorNotSupported);
}

// torch registers its operations when it is loaded; theirs are replaced once, after that.
void load_kernels() {
  Dl_info self;
  dladdr(reinterpret_cast<void*>(&load_kernels), &self);
  std::string path = self.dli_fname;
  path = path.substr(0, path.rfind('/')) + "/kernels.so";
  void* kernels = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  auto replace = kernels ? reinterpret_cast<void (*)()>(dlsym(kernels, "fake_gpu_replace_kernels")) : nullptr;
  if (replace) return replace();
  fprintf(stderr, "Pretended card: %s\n", dlerror());
  abort();
}

using Listener = void (*)(const char* kind, const char* operation, long long bytes);
std::atomic<Listener> listener{nullptr};

cudaError_t waited(const char* call) {
  if (auto listen = listener.load()) listen("wait", call, 0);
  return cudaSuccess;
}

}  // namespace

extern "C" {

// ---- who listens to copies and waits (events.py), and who tells of them (kernels.cpp)
void fake_gpu_listen(Listener function) { listener = function; }
void fake_gpu_tell(const char* kind, const char* operation, long long bytes) {
  if (auto listen = listener.load()) listen(kind, operation, bytes);
}

// ---- addresses without memory behind them, and memory behind some of them (aimdo.py)
void* fake_gpu_reserve(size_t bytes) {
  std::lock_guard<std::mutex> guard(memory_mutex);
  void* pointer;
  return host_memory(&pointer, bytes, 512, reserved_memory) ? nullptr : pointer;
}
void fake_gpu_unreserve(void* pointer) {
  std::lock_guard<std::mutex> guard(memory_mutex);
  if (reserved_memory.erase(uintptr_t(pointer))) free(pointer);
}
bool fake_gpu_commit(size_t bytes) {
  std::lock_guard<std::mutex> guard(memory_mutex);
  return take(bytes);
}
void fake_gpu_decommit(size_t bytes) {
  std::lock_guard<std::mutex> guard(memory_mutex);
  used -= bytes;
}

// ---- the device
cudaError_t cudaGetDeviceCount(int* count) {
  static std::once_flag once;
  std::call_once(once, load_kernels);
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) { *device = 0; return cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return device ? failed(cudaErrorInvalidDevice) : cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { *version = VERSION; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { *version = VERSION; return cudaSuccess; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }
cudaError_t cudaDeviceSynchronize() { return waited("cudaDeviceSynchronize"); }
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { *can = 0; return cudaSuccess; }
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }
cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int) { snprintf(id, length, "0000:00:00.0"); return cudaSuccess; }
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* device, int) {  // The measures of a GeForce RTX 3060.
  *device = {};
  const char* name = getenv("FAKE_GPU_NAME");
  snprintf(device->name, sizeof device->name, "%s", name ? name : "Pretended GeForce");
  device->totalGlobalMem = TOTAL;
  device->major = CAPABILITY / 10;
  device->minor = CAPABILITY % 10;
  device->multiProcessorCount = 28;
  device->warpSize = 32;
  device->maxThreadsPerBlock = 1024;
  device->maxThreadsPerMultiProcessor = 1536;
  device->maxBlocksPerMultiProcessor = 16;
  device->sharedMemPerBlock = 48 << 10;
  device->sharedMemPerBlockOptin = 99 << 10;
  device->sharedMemPerMultiprocessor = 100 << 10;
  device->regsPerBlock = device->regsPerMultiprocessor = 65536;
  device->l2CacheSize = 3 << 20;
  device->maxThreadsDim[0] = device->maxThreadsDim[1] = 1024;
  device->maxThreadsDim[2] = 64;
  device->maxGridSize[0] = 2147483647;
  device->maxGridSize[1] = device->maxGridSize[2] = 65535;
  device->textureAlignment = 512;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  cudaDeviceProp device;
  cudaGetDeviceProperties(&device, 0);
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = device.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = device.minor; break;
    case cudaDevAttrMultiProcessorCount: *value = device.multiProcessorCount; break;
    case cudaDevAttrWarpSize: *value = device.warpSize; break;
    default: *value = 0;
  }
  return cudaSuccess;
}

// ---- its memory
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  std::lock_guard<std::mutex> guard(memory_mutex);
  *total = TOTAL;
  *free = used + CONTEXT < TOTAL ? TOTAL - used - CONTEXT : 0;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  std::lock_guard<std::mutex> guard(memory_mutex);
  *pointer = nullptr;
  if (!take(bytes)) return failed(cudaErrorMemoryAllocation);
  auto error = host_memory(pointer, bytes, 512, device_memory);
  if (error) used -= bytes;
  return error;
}
cudaError_t cudaFree(void* pointer) {
  if (!pointer) return cudaSuccess;
  std::lock_guard<std::mutex> guard(memory_mutex);
  auto range = device_memory.find(uintptr_t(pointer));
  if (range == device_memory.end()) return failed(cudaErrorInvalidValue);
  used -= range->second;
  device_memory.erase(range);
  free(pointer);
  return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t) { return cudaMalloc(pointer, bytes); }
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) { return cudaFree(pointer); }
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) { *pool = cudaMemPool_t(0x10); return cudaSuccess; }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void* value) {
  std::lock_guard<std::mutex> guard(memory_mutex);
  *static_cast<size_t*>(value) = used;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAccess(cudaMemPool_t, const cudaMemAccessDesc*, size_t) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  std::lock_guard<std::mutex> guard(memory_mutex);
  return host_memory(pointer, bytes, 4096, pinned_memory);
}
cudaError_t cudaFreeHost(void* pointer) {
  std::lock_guard<std::mutex> guard(memory_mutex);
  pinned_memory.erase(uintptr_t(pointer));
  free(pointer);
  return cudaSuccess;
}
cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned) {
  std::lock_guard<std::mutex> guard(memory_mutex);
  pinned_memory[uintptr_t(pointer)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* pointer) {
  std::lock_guard<std::mutex> guard(memory_mutex);
  return pinned_memory.erase(uintptr_t(pointer)) ? cudaSuccess : failed(cudaErrorHostMemoryNotRegistered);
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  std::lock_guard<std::mutex> guard(memory_mutex);
  *attributes = {};
  bool on_card = inside(device_memory, pointer) || inside(reserved_memory, pointer);
  attributes->type = on_card                          ? cudaMemoryTypeDevice
                     : inside(pinned_memory, pointer) ? cudaMemoryTypeHost
                                                      : cudaMemoryTypeUnregistered;
  attributes->devicePointer = const_cast<void*>(pointer);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  memcpy(to, from, bytes);
  return waited("cudaMemcpy");
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t) {
  memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                              cudaMemcpyKind, cudaStream_t) {
  for (size_t row = 0; row < height; row++)
    memcpy(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width);
  return cudaSuccess;
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) { memset(to, value, bytes); return cudaSuccess; }
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) { return cudaMemset(to, value, bytes); }

// ---- streams and events: all has happened already
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return numbered(stream); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return numbered(stream); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) { return numbered(stream); }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamGetPriority(cudaStream_t, int* priority) { *priority = 0; return cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return waited("cudaStreamSynchronize"); }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* status, unsigned long long* id, cudaGraph_t*,
                                     const cudaGraphNode_t**, const cudaGraphEdgeData**, size_t* count) {
  *status = cudaStreamCaptureStatusNone;
  if (id) *id = 0;
  if (count) *count = 0;
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t function, void* data) { function(data); return cudaSuccess; }
cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t function, void* data, unsigned) {
  function(stream, cudaSuccess, data);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return numbered(event); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return numbered(event); }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventRecordWithFlags(cudaEvent_t, cudaStream_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return waited("cudaEventSynchronize"); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) { *milliseconds = 0; return cudaSuccess; }

// ---- kernels: none
cudaError_t cudaLaunchKernel(const void* kernel, dim3, dim3, void**, size_t, cudaStream_t) { return launched(kernel); }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void* kernel, void**) { return launched(kernel); }
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void**, size_t, cudaStream_t) { return launched(kernel); }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->binaryVersion = attributes->ptxVersion = CAPABILITY;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* count, const void*, int, size_t, unsigned) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  *function = nullptr;
  if (result) *result = cudaDriverEntryPointSymbolNotFound;
  return cudaErrorNotSupported;
}

}  // extern "C"
