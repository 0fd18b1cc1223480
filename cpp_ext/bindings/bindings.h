// What each binding file offers to module.cpp.
#pragma once

#include <nanobind/nanobind.h>

void register_cuda(nanobind::module_& module);
void register_heads(nanobind::module_& module);
void register_preprocess(nanobind::module_& module);
