#include "tools/plait/torch_commands.h"

#include <fstream>

#include "plait/job/job_config.h"
#include "plait/launch/launch.h"
#include "plait/sim/cost_file.h"
#include "tools/plait/commands.h"

namespace plait::tools {
namespace {

std::shared_ptr<TrainOptions> add_train_options(CLI::App& command) {
  auto options = std::make_shared<TrainOptions>();
  options->job = JobArguments::add_to(command);
  command.add_option("--comm", options->comm, "run.comm: inproc or gloo");
  command.add_option("--steps", options->steps, "run.steps");
  command.add_flag("--dry-run", options->dry_run, "print job, proof, stages and memory, and stop");
  command.add_flag("--overwrite", options->overwrite, "replace the run folder of an earlier run");
  auto* resume = command.add_flag("--resume", options->resume,
                                  "go on in the run's folder from its newest checkpoint");
  command
      .add_option("--resume-from", options->resume_from,
                  "go on from a checkpoint, or the newest of another run's folder, in a new folder")
      ->excludes(resume);
  command.add_flag("--reference", options->reference,
                   "one process, unpipelined: the run to compare with");
  command.add_flag("--save-gradients", options->save_gradients,
                   "also write the last step's gradients");
  command.add_flag("--watch", options->watch,
                   "show the run as plait top does, where stdout is a terminal");
  command.add_flag("--check-finite", options->check_finite,
                   "look at what every segment makes, and name the first whose numbers are not "
                   "finite");
  command
      .add_option("--record", options->record_step,
                  "write timeline.json and timeline.svg of this step, from 1")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--link-latency-us", options->link_latency_us,
                  "emulate a link between ranks that are threads: its latency")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--link-mb-per-s", options->link_mb_per_s,
                  "and the bandwidth out of each rank; 0: no limit")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--port", options->port,
                  "of the ranks' store under --comm gloo; otherwise a free one")
      ->check(CLI::Range(1, 65535));
  command.add_option("--launcher", options->launcher,
                     "local, torchrun, mpi or slurm; otherwise found in the environment");
  return options;
}

}  // namespace

std::vector<std::string> given_arguments() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> arguments;
  for (std::string argument; std::getline(file, argument, '\0');) arguments.push_back(argument);
  if (!arguments.empty()) arguments.erase(arguments.begin());
  return arguments;
}

void add_train(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("train", "train a job");
  auto options = add_train_options(*command);
  command->callback([options, &exit_code] {
    options->arguments = given_arguments();
    const Expected<int> result = train(*options);
    exit_code = result ? *result : report("train", result.error());
  });
}

void add_profile(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "profile", "fit costs to measured steps of a job, for simulate and compare");
  auto options = std::make_shared<ProfileOptions>();
  options->job = JobArguments::add_to(*command);
  options->out = kRunCosts;
  command->add_option("--steps", options->steps, "steps to measure, after three of warm-up")
      ->check(CLI::Range(1, 100000));
  command->add_option("--out", options->out, "the cost file (docs/simulate.md)");
  command->callback([options, &exit_code] {
    Expected<void> done = check_measures_alone(current_environment(), "profile");
    if (done) done = profile(*options);
    if (!done) exit_code = report("profile", done.error());
  });
}

void add_export(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "export", "write the model of a checkpoint as a folder of Hugging Face's transformers");
  auto options = std::make_shared<ExportOptions>();
  command
      ->add_option("checkpoint", options->checkpoint,
                   "a checkpoint, or a run's folder for its newest, also while it runs")
      ->required();
  command->add_option("--out", options->out, "the folder, which is made")->required();
  command->callback([options, &exit_code] {
    if (const Expected<void> done = export_model(*options); !done)
      exit_code = report("export", done.error());
  });
}

void add_sample(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("sample", "write text with a trained model");
  auto options = std::make_shared<SampleOptions>();
  command->add_option("run", options->run, "the folder of a run")->required();
  command->add_option("--prompt", options->prompt, "what the text begins with")->required();
  command->add_option("--tokens", options->tokens, "tokens to write")
      ->check(CLI::Range(1, 1 << 20));
  command->add_option("--temperature", options->temperature, "0 takes the likeliest token")
      ->check(CLI::Range(0.0, 100.0));
  command->add_option("--seed", options->seed, "of the drawing");
  command->callback([options, &exit_code] {
    if (const Expected<void> done = sample(*options); !done)
      exit_code = report("sample", done.error());
  });
}

}  // namespace plait::tools
