// Chemical symbols and atomic numbers.
#pragma once

#include <string>

namespace adatom_kim {

// The atomic number of a symbol such as "Si", or 0 if it is none.
int atomic_number(std::string const& symbol);

}  // namespace adatom_kim
