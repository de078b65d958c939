"""The small text files of a portable model's folder."""

from __future__ import annotations

from collections.abc import Sequence

from ase.data import atomic_masses, atomic_numbers

from adatom.deploy.kim.description import DRIVER_NAME, ModelDescription


def cmake_text(description: ModelDescription, parameter_files: Sequence[str]) -> str:
    """Return the CMakeLists.txt of a portable model.

    KIM 2.3 turns files into C arrays with xxd, for which 200 MB are too much: the compiler needs
    more than 20 GB. So its xxd is replaced by a script that lets the assembler include the bytes.
    KIM 2.4 has another way of its own and does not call xxd.
    """
    files = " ".join(f'"{file}"' for file in parameter_files)
    network = description.model_file
    return f"""\
# Install with: adatom kim install FOLDER
cmake_minimum_required(VERSION 3.10)

list(APPEND CMAKE_PREFIX_PATH $ENV{{KIM_API_CMAKE_PREFIX_DIR}})
find_package(KIM-API-ITEMS 2.2 REQUIRED CONFIG)

# Files become C arrays, which takes the compiler 100 bytes of memory per byte. Instead the
# assembler includes them as they are. (Its notation differs on macOS.)
if(NOT APPLE)
  set(XXD_EXECUTABLE sh "${{CMAKE_CURRENT_SOURCE_DIR}}/embed.sh" CACHE STRING "" FORCE)
endif()

if(NOT EXISTS "${{CMAKE_CURRENT_SOURCE_DIR}}/{network}")
  message(FATAL_ERROR "{network} has to be compiled for this machine: adatom kim install FOLDER")
endif()

kim_api_items_setup_before_project(ITEM_TYPE "portableModel")
project({description.name})
kim_api_items_setup_after_project(ITEM_TYPE "portableModel")

add_kim_api_model_library(
  NAME ${{PROJECT_NAME}}
  DRIVER_NAME "{DRIVER_NAME}"
  PARAMETER_FILES {files})
"""


def embed_script() -> str:
    """Return the script that stands in for ``xxd -i IN OUT``."""
    return r"""#!/bin/sh
# Called as: embed.sh -i IN OUT. Writes C source OUT that has the bytes of IN under the names that
# "xxd -i" would use; the assembler reads IN itself.
set -eu
input="$PWD/$2"
name=$(printf '%s' "$2" | sed -e 's/[^A-Za-z0-9_]/_/g' -e 's/^\([0-9]\)/_\1/')
size=$(wc -c < "$2" | tr -d ' ')
cat > "$3" << END
__asm__(
".section .rodata\n"
".balign 16\n"
".globl $name\n"
"$name:\n"
".incbin \"$input\"\n"
".byte 0\n"
".balign 4\n"
".globl ${name}_len\n"
"${name}_len:\n"
".long $size\n"
".text\n");
END
"""


def kimspec_text(description: ModelDescription, title: str) -> str:
    """Return kimspec.edn; what only an upload to openkim.org needs is left to its author."""
    species = " ".join(f'"{symbol}"' for symbol in description.species)
    quoted = title.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f"""\
{{
 "domain" "openkim.org"
 "extended-id" "{description.name}"
 "kim-api-version" "2.3"
 "model-driver" "{DRIVER_NAME}"
 "potential-type" "machine learning"
 "species" [{species}]
 "title" "{quoted}"
 "description" "{quoted}"
}}
"""


def lammps_text(description: ModelDescription) -> str:
    """Return a short input of LAMMPS that shows how the model is used."""
    species = " ".join(description.species)
    masses = "\n".join(
        f"mass            {i} {atomic_masses[atomic_numbers[symbol]]:.4f}   # {symbol}"
        for i, symbol in enumerate(description.species, start=1)
    )
    return f"""\
# Replace data.lammps by your structure; its atom types are, in this order: {species}
# Any units that KIM knows will do; the model converts.
kim             init {description.name} metal
boundary        p p p
atom_style      atomic
read_data       data.lammps
{masses}
kim             interactions {species}
# Atoms up to {description.influence_distance:g} angstrom away act on an atom
# (cutoff {description.cutoff:g} angstrom, {description.layers} layer(s)).
velocity        all create 300.0 12345 loop geom
fix             1 all nve
timestep        0.001
thermo          10
run             100
"""
