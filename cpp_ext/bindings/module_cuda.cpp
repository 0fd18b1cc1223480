// The optional Python module edgetl.native._cuda: the GPU's kernels and nothing else.
#include <nanobind/nanobind.h>

#include "bindings.h"

NB_MODULE(_cuda, module) {
    module.doc() = "The GPU's kernels of edgetl; use them through edgetl.native.cuda.";
    register_cuda(module);
}
