// The driver that libcaffe2_nvrtc and others are linked to: it has a context, and nothing in it works.
#define NOT_SUPPORTED 801
#define FAILS(name) int name() { return NOT_SUPPORTED; }

extern "C" {

FAILS(cuCtxFromGreenCtx) FAILS(cuCtxPopCurrent) FAILS(cuCtxPushCurrent) FAILS(cuCtxSetCurrent)
FAILS(cuDevicePrimaryCtxRetain) FAILS(cuDevResourceGenerateDesc) FAILS(cuDevSmResourceSplitByCount) FAILS(cuDeviceGet)
FAILS(cuDeviceGetAttribute) FAILS(cuDeviceGetDevResource) FAILS(cuDriverGetVersion) FAILS(cuFuncGetAttribute)
FAILS(cuFuncSetAttribute) FAILS(cuFuncSetCacheConfig) FAILS(cuGetProcAddress_v2) FAILS(cuGreenCtxCreate)
FAILS(cuGreenCtxDestroy) FAILS(cuGreenCtxStreamCreate) FAILS(cuInit) FAILS(cuLaunchCooperativeKernel)
FAILS(cuLaunchKernel) FAILS(cuLinkAddData_v2) FAILS(cuLinkComplete) FAILS(cuLinkCreate_v2) FAILS(cuMemAddressFree)
FAILS(cuMemAddressReserve) FAILS(cuMemCreate) FAILS(cuMemExportToShareableHandle) FAILS(cuMemGetAllocationGranularity)
FAILS(cuMemGetAllocationPropertiesFromHandle) FAILS(cuMemImportFromShareableHandle) FAILS(cuMemMap) FAILS(cuMemRelease)
FAILS(cuMemRetainAllocationHandle) FAILS(cuMemSetAccess) FAILS(cuMemUnmap) FAILS(cuMemsetD32Async)
FAILS(cuModuleGetFunction) FAILS(cuModuleLoad) FAILS(cuModuleLoadData) FAILS(cuModuleLoadDataEx) FAILS(cuModuleUnload)
FAILS(cuMulticastAddDevice) FAILS(cuMulticastBindMem) FAILS(cuMulticastCreate) FAILS(cuMulticastUnbind)
FAILS(cuOccupancyMaxActiveBlocksPerMultiprocessor) FAILS(cuPointerGetAttribute) FAILS(cuStreamWriteValue32)
FAILS(cuTensorMapEncodeTiled)

int cuCtxGetCurrent(void** context) { *context = reinterpret_cast<void*>(16); return 0; }
int cuGetErrorString(int, const char** text) { *text = "this card is pretended"; return 0; }
int cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) {
  if (flags) *flags = 0;
  if (active) *active = 1;
  return 0;
}

}  // extern "C"
