#include "units.hpp"

#include "failure.hpp"

namespace adatom_kim {
namespace {

constexpr double erg_per_joule = 1e7;

double factor(KIM::LengthUnit length, KIM::EnergyUnit energy, double length_exponent,
              double energy_exponent) {
  double found = 0.0;
  int const error = KIM::ModelDriverCreate::ConvertUnit(
      KIM::LENGTH_UNIT::A, KIM::ENERGY_UNIT::eV, KIM::CHARGE_UNIT::e, KIM::TEMPERATURE_UNIT::K,
      KIM::TIME_UNIT::ps, length, energy, KIM::CHARGE_UNIT::e, KIM::TEMPERATURE_UNIT::K,
      KIM::TIME_UNIT::ps, length_exponent, energy_exponent, 0.0, 0.0, 0.0, &found);
  if (error != 0)
    throw Failure("KIM cannot convert angstrom and eV to " + length.ToString() + " and " +
                  energy.ToString() + ".");
  return found;
}

double energy_factor(KIM::LengthUnit length, KIM::EnergyUnit energy) {
  // KIM 2.3 takes an erg for 1e7 J instead of 1e-7 J.
  if (energy == KIM::ENERGY_UNIT::erg)
    return erg_per_joule * factor(length, KIM::ENERGY_UNIT::J, 0.0, 1.0);
  return factor(length, energy, 0.0, 1.0);
}

}  // namespace

Units agree_on_units(KIM::ModelDriverCreate& create, KIM::LengthUnit length,
                     KIM::EnergyUnit energy) {
  Units units;
  units.length = factor(length, energy, 1.0, 0.0);
  units.energy = energy_factor(length, energy);
  if (create.SetUnits(length, energy, KIM::CHARGE_UNIT::unused, KIM::TEMPERATURE_UNIT::unused,
                      KIM::TIME_UNIT::unused) != 0)
    throw Failure("KIM refuses the units " + length.ToString() + " and " + energy.ToString() + ".");
  return units;
}

}  // namespace adatom_kim
