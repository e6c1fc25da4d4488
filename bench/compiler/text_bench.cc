// Reading and writing schedules: bytes per second on one core.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <string>

#include "plait/ir/forms/text_forms.h"
#include "plait/schedule/generators.h"

namespace plait {
namespace {

/// dualpipe-v at R ranks and M = 16 R micro-batches: a stage action takes 5 to 8 bytes.
Schedule example(std::int64_t ranks) {
  Expected<Schedule> schedule =
      generate("dualpipe-v", {static_cast<int>(ranks), static_cast<int>(16 * ranks)});
  if (!schedule) std::abort();
  return *std::move(schedule);
}

void set_bytes(benchmark::State& state, const std::string& text) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}

void print_form(benchmark::State& state, const FormInfo& form) {
  const Schedule schedule = example(state.range(0));
  std::string text;
  for (auto _ : state) {
    text = form.print(schedule);
    benchmark::DoNotOptimize(text.data());
  }
  set_bytes(state, text);
}

void read_form(benchmark::State& state, const FormInfo& form) {
  const std::string text = form.print(example(state.range(0)));
  for (auto _ : state) {
    Expected<Schedule> schedule = read_schedule(text, "bench", {});
    if (!schedule) std::abort();
    benchmark::DoNotOptimize(schedule->ranks.data());
  }
  set_bytes(state, text);
}

BENCHMARK_CAPTURE(print_form, csv, kForms[0])->Arg(16)->Arg(128)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(read_form, csv, kForms[0])->Arg(16)->Arg(128)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(print_form, plait, kForms[1])->Arg(16)->Arg(128)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(read_form, plait, kForms[1])->Arg(16)->Arg(128)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(print_form, json, kForms[2])->Arg(16)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(read_form, json, kForms[2])->Arg(16)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace plait
