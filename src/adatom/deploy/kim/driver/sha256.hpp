// SHA-256 of a file (FIPS 180-4), so that damaged weights are noticed.
#pragma once

#include <string>

namespace adatom_kim {

// 64 hexadecimal digits. Throws Failure if the file cannot be read.
std::string sha256_of_file(std::string const& path);

}  // namespace adatom_kim
