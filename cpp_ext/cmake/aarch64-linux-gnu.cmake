# Cross-compiles for 64-bit ARM with Debian's g++-aarch64-linux-gnu, and runs what was built under
# qemu's user mode emulation: cmake -DCMAKE_TOOLCHAIN_FILE=cpp_ext/cmake/aarch64-linux-gnu.cmake
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

find_program(EDGETL_QEMU NAMES qemu-aarch64 qemu-aarch64-static)
if(EDGETL_QEMU)
  # -L: where the dynamic loader and the libraries of the other architecture lie.
  set(CMAKE_CROSSCOMPILING_EMULATOR ${EDGETL_QEMU} -L /usr/aarch64-linux-gnu)
endif()
