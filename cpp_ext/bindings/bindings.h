// What each binding file offers to module.cpp.
#pragma once

#include <nanobind/nanobind.h>

void register_cuda(nanobind::module_& module);
void register_heads(nanobind::module_& module);
void register_loader(nanobind::module_& module);
void register_pool(nanobind::module_& module);
void register_preprocess(nanobind::module_& module);
