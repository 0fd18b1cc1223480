# The optional module _cuda. nvcc compiles the kernels, the host's compiler the bindings; the CUDA
# runtime is linked statically, so the module needs no other file and imports without a driver.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  # Turing, Ampere, Ada and Hopper; newer GPUs compile the last one's PTX when a program starts.
  set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90)
endif()
if(NOT DEFINED CMAKE_CUDA_HOST_COMPILER AND NOT DEFINED ENV{CUDAHOSTCXX})
  set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}")
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)

add_library(edgetl_cuda STATIC
  cuda/device.cu
  cuda/features.cu
  cuda/neighbours.cu
  cuda/preprocess.cu)
target_link_libraries(edgetl_cuda PUBLIC edgetl_core)
# Contraction is off because the reference rounds every product; fused ones are written as fmaf.
target_compile_options(edgetl_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false --threads=0
    -Xcompiler=-Wall,-Wextra,-Wno-unknown-pragmas,-ffp-contract=off>)

nanobind_add_module(_cuda STABLE_ABI NB_STATIC
  bindings/cuda.cpp
  bindings/module_cuda.cpp)
target_link_libraries(_cuda PRIVATE edgetl_cuda)
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  target_compile_options(_cuda PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra>)
endif()
install(TARGETS _cuda LIBRARY DESTINATION edgetl/native)
