# find_package(edgetl): the targets edgetl::shared and edgetl::static. A program in C that links the
# archive must enable CXX in its project too, since the linker then needs the C++ library.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
include("${CMAKE_CURRENT_LIST_DIR}/edgetlTargets.cmake")
