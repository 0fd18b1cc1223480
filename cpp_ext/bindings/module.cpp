// The Python module edgetl.native._core: registers each topic and does nothing else.
#include <nanobind/nanobind.h>

#include "bindings.h"

NB_MODULE(_core, module) {
    module.doc() = "The compiled core of edgetl; use it through edgetl.native.";
    auto twin = module.def_submodule("cuda_twin", "The GPU's kernels, run on the host.");
    register_cuda(twin);
    register_heads(module);
    register_loader(module);
    register_pool(module);
    register_preprocess(module);
}
