// The rank of this process on its node, asked from MPI where the driver was built with it.
#pragma once

#include <optional>

namespace adatom_kim {

// Nothing if the driver was built without MPI, or if MPI is not running.
std::optional<int> local_rank_from_mpi();

}  // namespace adatom_kim
