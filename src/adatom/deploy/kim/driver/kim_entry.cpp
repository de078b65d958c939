// The routines that KIM calls. Every exception ends here: it is logged, and KIM gets an error.
#include <c10/util/Exception.h>

#include "failure.hpp"
#include "kim_model.hpp"

namespace adatom_kim {
namespace {

// Run ``action``; return 0, or log what went wrong and return 1.
template <typename Logger, typename Action>
int guarded(Logger const* kim, Action const& action) {
  std::string message;
  try {
    action();
    return 0;
  } catch (Failure const& failure) {
    message = failure.what();
  } catch (c10::Error const& error) {
    message = "PyTorch failed: " + one_line(error.what_without_backtrace());
  } catch (std::bad_alloc const&) {
    message = "There is not enough memory for this many atoms; use more MPI ranks.";
  } catch (std::exception const& error) {
    message = "The model failed: " + one_line(error.what());
  } catch (...) {
    message = "The model failed for an unknown reason.";
  }
  kim->LogEntry(KIM::LOG_VERBOSITY::error, message, __LINE__, __FILE__);
  return 1;
}

void require(int error, char const* what) {
  if (error != 0) throw Failure(std::string("KIM refuses ") + what + ".");
}

template <typename Holder>
KimModel* model_of(Holder const& holder) {
  void* pointer = nullptr;
  holder.GetModelBufferPointer(&pointer);
  return static_cast<KimModel*>(pointer);
}

int destroy(KIM::ModelDestroy* const kim) {
  return guarded(kim, [&] { delete model_of(*kim); });
}

int refresh(KIM::ModelRefresh* const kim) {
  return guarded(kim, [&] {
    KimModel* const model = model_of(*kim);
    kim->SetInfluenceDistancePointer(&model->influence_distance);
    kim->SetNeighborListPointers(1, &model->cutoff, &model->will_not_request_ghost_lists);
  });
}

int compute_routine(KIM::ModelCompute const* const kim,
                    KIM::ModelComputeArguments const* const arguments) {
  return guarded(kim, [&] { compute(*model_of(*kim), *arguments); });
}

int create_arguments(KIM::ModelCompute const* const kim,
                     KIM::ModelComputeArgumentsCreate* const arguments) {
  return guarded(kim, [&] {
    namespace names = KIM::COMPUTE_ARGUMENT_NAME;
    ModelDescription const& says = model_of(*kim)->network.description;
    auto const set = [&](KIM::ComputeArgumentName name, bool supported) {
      require(arguments->SetArgumentSupportStatus(
                  name, supported ? KIM::SUPPORT_STATUS::optional
                                  : KIM::SUPPORT_STATUS::notSupported),
              "a support status");
    };
    set(names::partialEnergy, true);
    set(names::partialForces, true);
    set(names::partialVirial, true);
    set(names::partialParticleEnergy, says.returns_particle_energies);
    set(names::partialParticleVirial, says.edge_vectors || says.returns_particle_virial);
  });
}

int destroy_arguments(KIM::ModelCompute const* const,
                      KIM::ModelComputeArgumentsDestroy* const) {
  return 0;
}

void register_routines(KIM::ModelDriverCreate& create) {
  namespace names = KIM::MODEL_ROUTINE_NAME;
  auto const set = [&](KIM::ModelRoutineName name, auto* routine) {
    require(create.SetRoutinePointer(name, KIM::LANGUAGE_NAME::cpp, true,
                                     reinterpret_cast<KIM::Function*>(routine)),
            "a routine");
  };
  set(names::Destroy, &destroy);
  set(names::Refresh, &refresh);
  set(names::Compute, &compute_routine);
  set(names::ComputeArgumentsCreate, &create_arguments);
  set(names::ComputeArgumentsDestroy, &destroy_arguments);
}

}  // namespace
}  // namespace adatom_kim

extern "C" int adatom_kim_create(KIM::ModelDriverCreate* const create,
                                 KIM::LengthUnit const length, KIM::EnergyUnit const energy,
                                 KIM::ChargeUnit const, KIM::TemperatureUnit const,
                                 KIM::TimeUnit const) {
  using namespace adatom_kim;
  return guarded(create, [&] {
    register_routines(*create);
    create->SetModelBufferPointer(create_model(*create, length, energy).release());
  });
}
