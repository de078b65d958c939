#include "gil.hpp"

#include <dlfcn.h>

namespace adatom_kim {
namespace {

template <typename Function>
Function* find(char const* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

}  // namespace

GilRelease::GilRelease() {
  auto* const is_initialized = find<int()>("Py_IsInitialized");
  auto* const held_here = find<int()>("PyGILState_Check");
  auto* const save = find<void*()>("PyEval_SaveThread");
  auto* const restore = find<void(void*)>("PyEval_RestoreThread");
  if (is_initialized == nullptr || held_here == nullptr || save == nullptr || restore == nullptr)
    return;
  if (is_initialized() != 0 && held_here() != 0) state_ = save();
}

GilRelease::~GilRelease() {
  if (state_ != nullptr) find<void(void*)>("PyEval_RestoreThread")(state_);
}

}  // namespace adatom_kim
