#include "mpi_rank.hpp"

#ifdef ADATOM_KIM_MPI
#include <mpi.h>
#endif

namespace adatom_kim {

std::optional<int> local_rank_from_mpi() {
#ifdef ADATOM_KIM_MPI
  int started = 0, ended = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&ended);
  if (started == 0 || ended != 0) return std::nullopt;
  MPI_Comm node;
  if (MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node) !=
      MPI_SUCCESS)
    return std::nullopt;
  int rank = 0;
  MPI_Comm_rank(node, &rank);
  MPI_Comm_free(&node);
  return rank;
#else
  return std::nullopt;
#endif
}

}  // namespace adatom_kim
