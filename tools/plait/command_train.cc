#include <fmt/core.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "plait/draw/ascii.h"
#include "plait/draw/progress.h"
#include "plait/job/job_config.h"
#include "plait/launch/launch.h"
#include "plait/launch/local_ranks.h"
#include "plait/launch/restart.h"
#include "plait/launch/signals.h"
#include "plait/record/loss_spikes.h"
#include "plait/record/recorder.h"
#include "plait/record/run_folder.h"
#include "plait/saved/checkpoint_folder.h"
#include "plait/torch/c10d_world.h"
#include "plait/torch/device_cuda.h"
#include "plait/torch/rendezvous.h"
#include "plait/train/checkpoint_resume.h"
#include "plait/train/job_run.h"
#include "plait/train/ngram.h"
#include "tools/plait/commands.h"
#include "tools/plait/output.h"
#include "tools/plait/run_screen.h"
#include "tools/plait/terminal.h"
#include "tools/plait/torch_commands.h"

namespace plait::tools {
namespace {

Expected<JobConfig> read_job(const TrainOptions& options) {
  PLAIT_TRY(std::vector<Override> overrides, options.job->overrides());
  add_shortcut(overrides, "--comm", "run.comm", options.comm);
  add_shortcut(overrides, "--steps", "run.steps", options.steps);
  return read_job_config(options.job->job, overrides);
}

/// What one sees before the first step.
Expected<void> print_plan(const JobPlan& plan, bool reference) {
  PLAIT_TRY(const std::string picture,
            draw_schedule(plan.compute_only, {has_colours(), terminal_size().columns}));
  print("{}\nproven: {}\n{}{}\n{}\n", picture, plan.training.summary(), describe_pairs(plan),
        describe_rounds(plan) + describe_shards(plan) + describe_nothing_to_do(plan),
        describe_stages(plan));
  if (reference)
    print("reference: all stages in one process, unpipelined, micro-batches ascending\n");
  for (const std::string& note : plan.notes) print("note: {}\n", note);
  flush_output();
  return {};
}

/// The model's bits per byte on what it is validated on, beside those of n-grams.
std::string describe_ngrams(const JobPlan& plan, const DataSplit& data, double model_bits) {
  if (plan.job.data.format != "bytes") return {};
  const std::array<double, 4> bits = held_out_ngram_bits(data, plan.job.data.sequence_length);
  return fmt::format(
      "held-out bits per byte: model {:.3f}  unigram {:.3f}  bigram {:.3f}  trigram {:.3f}  4-gram "
      "{:.3f}  (interpolated Witten-Bell, same training text, same bytes)",
      model_bits, bits[0], bits[1], bits[2], bits[3]);
}

/// True if `path` is `folder` or lies in it.
bool lies_in(const std::string& path, const std::string& folder) {
  std::error_code error;
  const std::filesystem::path of = std::filesystem::relative(path, folder, error);
  return !error && !of.empty() && *of.begin() != "..";
}

/// What the run goes on from; nothing: it begins anew.
Expected<std::optional<Resume>> find_resume(const TrainOptions& options, const JobPlan& plan) {
  if (!options.resume && options.resume_from.empty()) return std::optional<Resume>();
  const std::string run = run_folder_path(plan.job);
  if (options.resume) PLAIT_TRY_VOID(RunFolder::check(run, ExistingFolder::kResume));
  PLAIT_TRY(Resume resume, resume_from(options.resume ? run : options.resume_from, plan.job));
  if (!options.resume && lies_in(resume.from.folder, run)) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("lies in the run's own folder {}, needed --resume, or another folder "
                            "by run.folder",
                            run),
                fmt::format("--resume-from {}", options.resume_from));
  }
  if (options.record_step > 0 && options.record_step <= resume.step()) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("the run goes on from step {}", resume.step()),
                fmt::format("--record {}", options.record_step));
  }
  return std::optional<Resume>(std::move(resume));
}

/// Flags that would be dropped beside this job.
Expected<void> check_flags(const TrainOptions& options, const JobConfig& job) {
  if (options.record_step > job.run.steps) {
    return fail(ErrorCode::kInvalidInput, fmt::format("the run ends at step {}", job.run.steps),
                fmt::format("--record {}", options.record_step));
  }
  if (options.reference && options.record_step > 0) {
    return fail(ErrorCode::kInvalidInput,
                "does not apply to a reference run, which has no timeline", "--record");
  }
  if (options.reference && !options.comm.empty()) {
    return fail(ErrorCode::kInvalidInput, "does not apply to a reference run, which is one process",
                "--comm");
  }
  if (options.resume && options.overwrite) {
    return fail(ErrorCode::kInvalidInput,
                "does not apply to a run that goes on in its folder (--resume)", "--overwrite");
  }
  if (options.port != 0 && (options.reference || job.run.comm != "gloo")) {
    return fail(ErrorCode::kInvalidInput, "is of ranks that are processes, needed --comm gloo",
                "--port");
  }
  return {};
}

ExistingFolder existing_folder(const TrainOptions& options) {
  if (options.resume) return ExistingFolder::kResume;
  return options.overwrite ? ExistingFolder::kOverwrite : ExistingFolder::kRefuse;
}

std::string stop_words(int signal, int steps_done, const JobConfig& job) {
  return fmt::format("{} after step {}; the model as it was then is in {}{}", stop_word(signal),
                     steps_done, run_folder_path(job),
                     job.checkpoint.every > 0 ? ", --resume goes on from there" : "");
}

/// True of what a rank meets when others have ended as they were asked to.
bool follows_from_stop(const Error& error) {
  return StopSignals::requested() != 0 &&
         (error.code == ErrorCode::kPeer || error.code == ErrorCode::kTimeout);
}

/// What rank 0 prints while its recorder writes.
class Reporter {
 public:
  Reporter(const JobPlan& plan, const DataSplit& data, const TrainOptions& options,
           const std::optional<Resume>& resume)
      : plan_(plan),
        data_(data),
        options_(options),
        resume_(resume),
        recorder_(std::in_place, recorded_run(plan), recorder_options(options, resume)) {
    if (!options.watch) show_progress(stdout, is_terminal());
  }

  RunHooks hooks() {
    RunHooks hooks;
    if (resume_) {
      hooks.resume = &resume_->saved;
      hooks.own_state = resume_->own;
    }
    hooks.checkpoints = job_checkpoints(plan_);
    hooks.checkpoints.on_warning = warn;
    hooks.on_begin = [this] { return begin(); };
    hooks.on_step = [this](const StepOutcome& outcome) -> Expected<void> {
      recorder_->step(outcome);
      progress_->step(outcome.line, now() - begin_);
      if (!outcome.skipped_for.empty()) {
        progress_->note(
            fmt::format("step {} was skipped: {}", outcome.line.step, outcome.skipped_for));
      } else if (const std::string spike = spikes_.add(outcome.line.loss); !spike.empty()) {
        progress_->note(fmt::format("step {}: {}", outcome.line.step, spike));
      }
      return {};
    };
    hooks.on_validation = [this](const ValidationLine& line) { return validation(line); };
    hooks.model_sink = [this] { return recorder_->model_sink(); };
    if (options_.save_gradients)
      hooks.gradient_sink = [this] { return recorder_->gradient_sink(); };
    hooks.on_trained = [this]() -> Expected<void> {
      recorder_->trained();
      return {};
    };
    hooks.on_end = [this]() -> Expected<void> {
      progress_->note(fmt::format("model written to {}", recorder_->file("model")));
      return recorder_->end();
    };
    return hooks;
  }
  void end_progress() {
    if (progress_) progress_->end();
  }
  /// Removes the folder of a run that took no step.
  void abandon() { recorder_.reset(); }

 private:
  static void warn(const Error& error) {
    fmt::print(stderr, "plait train: warning: {}; the run goes on\n", error.text());
  }
  static RunRecorder::Options recorder_options(const TrainOptions& options,
                                               const std::optional<Resume>& resume) {
    RunRecorder::Options of_recorder;
    if (resume) of_recorder.metrics = resume->metrics;
    of_recorder.existing = existing_folder(options);
    of_recorder.timeline_step = options.record_step;
    of_recorder.gradients = options.save_gradients;
    of_recorder.fits_costs = !options.reference;
    of_recorder.on_warning = warn;
    return of_recorder;
  }

  ProgressShape shape() const {
    const RunConfig& run = plan_.job.run;
    return {run.steps, options_.reference ? 1 : plan_.ranks(),
            static_cast<int>(std::thread::hardware_concurrency()), run.threads};
  }
  void show_progress(std::FILE* out, bool terminal) {
    progress_.emplace(out, terminal, shape(), plan_.job.run.log_every);
  }

  Expected<void> begin() {
    PLAIT_TRY_VOID(recorder_->begin());
    begin_ = now();
    if (options_.watch) {
      const std::string log = recorder_->file(kWatchedLog);
      log_.reset(std::fopen(log.c_str(), resume_ ? "a" : "w"));
      if (!log_) return fail(ErrorCode::kIo, "the rank's log cannot be written", log);
      show_progress(log_.get(), false);
    }
    progress_->note(step_legend(shape(), recorder_->file("metrics.jsonl")));
    return {};
  }

  Expected<void> validation(const ValidationLine& line) {
    recorder_->validation(line);
    progress_->note(fmt::format(
        "step {}  validation loss {:.4f}  {:.3f} bits per {}  over {} tokens", line.step, line.loss,
        line.bits_per_token(), plan_.job.data.format == "bytes" ? "byte" : "token", line.tokens));
    if (line.step == plan_.job.run.steps) {
      const std::string ngrams = describe_ngrams(plan_, data_, line.bits_per_token());
      if (!ngrams.empty()) progress_->note(ngrams);
    }
    return {};
  }

  const JobPlan& plan_;
  const DataSplit& data_;
  const TrainOptions& options_;
  const std::optional<Resume>& resume_;
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> log_;  // where a screen shows the run
  std::optional<Progress> progress_;
  std::optional<RunRecorder> recorder_;
  LossSpikes spikes_;
  Nanoseconds begin_ = 0;
};

/// In the handler of a signal that ends this process at once.
void leave_at_once(int signal) {
  LocalRanks::kill_all();
  SecondScreen::leave();
  if (std::getenv(kRankVariable) != nullptr) return;  // our own parent says it
  const std::string_view before = "plait train: ", after = "\n", word = stop_word(signal);
  for (const std::string_view part : {before, word, after})
    (void)!write(STDERR_FILENO, part.data(), part.size());
}

/// In the handler of a read behind the end of a data file.
void end_without_data(const char* words) {
  SecondScreen::leave();
  if (!tell_parent(words)) {
    const std::string_view before = "plait train: error: ", after = "\n";
    for (const std::string_view part : {before, std::string_view(words), after})
      (void)!write(STDERR_FILENO, part.data(), part.size());
  }
  _exit(kExitFailed);
}

/// Calls `hook`, if there is one, from when on a signal waits for the end of a step.
std::function<Expected<void>()> deferring_stops(std::function<Expected<void>()> hook) {
  return [hook = std::move(hook)]() -> Expected<void> {
    StopSignals::defer();
    return hook ? hook() : Expected<void>();
  };
}

void print_report(const std::string& text) { fmt::print(stderr, "plait train: {}\n", text); }

/// What flags and signals say beside the job.
void use_options(const TrainOptions& options, TrainSettings& settings) {
  settings.checks_segments = options.check_finite;
  settings.report_wanted = ReportSignal::take;
  settings.on_report = [](const std::string& text) {
    if (!tell_parent_report(text)) print_report(text);
  };
}

/// Starts the ranks and waits until all have ended.
Expected<LocalRanks::Outcome> run_local_ranks(const JobPlan& plan, const TrainOptions& options,
                                              const std::vector<std::string>& arguments) {
  PLAIT_TRY(const StoreServer server, StoreServer::start(options.port));
  const RunConfig& run = plan.job.run;
  constexpr double kNothingToFinish = 3;  // of ranks that start again
  LocalRanks::Options local;
  local.ranks = plan.ranks();
  local.arguments = arguments;
  local.master_port = server.port();
  local.grace_s = run.on_loss == "restart" ? kNothingToFinish : run.timeout_s;
  local.on_report = print_report;
  PLAIT_TRY(LocalRanks ranks, LocalRanks::start(local));
  return ranks.wait();
}

/// The process that a user started: starts the ranks, again if one is lost and the job says so.
Expected<int> watch_local_ranks(const JobPlan& plan, const TrainOptions& options) {
  const std::string folder = run_folder_path(plan.job);
  std::optional<RunScreen> screen;
  if (options.watch) screen.emplace(folder);
  StopSignals::defer();  // from here on the ranks end first
  if (screen) screen->start();
  std::vector<std::string> arguments = options.arguments;
  RestartLimit limit;
  LocalRanks::Outcome outcome;
  while (true) {
    PLAIT_TRY(outcome, run_local_ranks(plan, options, arguments));
    if (!outcome.lost_a_rank || plan.job.run.on_loss != "restart") break;
    const std::vector<int> steps = checkpoint_steps(folder);
    const int step = steps.empty() ? 0 : steps.back();
    if (!limit.allows(step)) {
      outcome.message +=
          fmt::format("; given up after {} restarts from step {}", RestartLimit::kFruitless, step);
      break;
    }
    arguments = restarted_arguments(options.arguments, !steps.empty());
    print_report(fmt::format("{}; all ranks start again from step {}", outcome.message, step));
  }
  if (screen) screen->end();
  if (!outcome.message.empty()) {
    fmt::print(stderr, "plait train: {}{}\n", outcome.exit_code < 128 ? "error: " : "",
               outcome.message);
  }
  return outcome.exit_code;
}

/// From here on what this process prints goes into a file, behind what it holds or in its place.
Expected<void> log_to(const std::string& path, bool behind) {
  if (std::freopen(path.c_str(), behind ? "a" : "w", stdout) != nullptr &&
      dup2(STDOUT_FILENO, STDERR_FILENO) >= 0)
    return {};
  return fail(ErrorCode::kIo, "the rank's log cannot be written", path);
}

/// One rank of several processes. Leaves the process where a wait of Gloo could hold it.
Expected<int> train_as_rank(const JobPlan& plan, const DataSplit& data, const TrainOptions& options,
                            const std::optional<Resume>& resume, const RankPlace& place) {
  C10dOptions c10d;
  c10d.rank = place.rank;
  c10d.ranks = place.ranks;
  c10d.rank_on_machine = place.rank_on_machine;
  c10d.grid = plan.grid();
  c10d.address = place.master_address;
  c10d.port = place.master_port;
  c10d.hosts_store = place.hosts_store;
  c10d.run_id = place.run_id;
  c10d.on_met = tell_parent_of_meeting;
  c10d.start_timeout_s = plan.job.run.start_timeout_s;
  c10d.timeout_s = plan.job.run.timeout_s;
  c10d.tags = {plan.stages(), plan.microbatches(), 1};
  if (place.rank == 0) PLAIT_TRY_VOID(print_plan(plan, false));
  Reporter reporter(plan, data, options, resume);
  RunHooks hooks = reporter.hooks();
  if (place.launcher == Launcher::kLocal && place.rank > 0) {
    hooks.on_begun = [&] {
      return log_to(fmt::format("{}/rank-{}.log", run_folder_path(plan.job), place.rank),
                    resume.has_value());
    };
  }
  hooks.on_begin = deferring_stops(hooks.on_begin);
  hooks.on_begun = deferring_stops(hooks.on_begun);
  hooks.stop_signal = StopSignals::requested;
  // Our own parent shows the run of its ranks.
  std::optional<RunScreen> screen;
  if (options.watch && place.rank == 0 && place.launcher != Launcher::kLocal) {
    screen.emplace(run_folder_path(plan.job));
    screen->start();
  }
  JobModel model = job_model(plan, data);
  TrainSetup setup = job_setup(plan, model);
  use_options(options, setup.settings);
  if (resume) setup.agreement += resume->agreement();
  const Expected<RunOutcome> outcome = run_as_process(setup, run_length(plan), c10d, hooks);
  if (place.rank == 0) reporter.end_progress();
  if (screen) screen->end();
  std::fflush(nullptr);
  if (!outcome) {
    const bool asked = follows_from_stop(outcome.error());
    if (!asked && !tell_parent(outcome.error().text())) report("train", outcome.error());
    reporter.abandon();
    _exit(asked ? 128 + StopSignals::requested() : exit_code_of(outcome.error()));
  }
  const int stop = outcome->stop_signal != 0 ? outcome->stop_signal : StopSignals::requested();
  if (stop == 0) return kExitOk;
  const std::string words = stop_words(stop, outcome->steps_done, plan.job);
  if (place.rank == 0 && !tell_parent(words)) fmt::print(stderr, "plait train: {}\n", words);
  return 128 + stop;
}

/// All ranks as threads of this process, or the reference.
Expected<int> train_here(const JobPlan& plan, const DataSplit& data, const TrainOptions& options,
                         const std::optional<Resume>& resume) {
  PLAIT_TRY_VOID(print_plan(plan, options.reference));
  Reporter reporter(plan, data, options, resume);
  RunHooks hooks = reporter.hooks();
  hooks.link.latency = static_cast<Nanoseconds>(options.link_latency_us * 1e3);
  hooks.link.bytes_per_s = static_cast<Bytes>(options.link_mb_per_s * 1e6);
  if (hooks.link.is_given()) {
    print("emulated link: {} us latency, {} MB/s out of each rank (0: no limit)\n",
          options.link_latency_us, options.link_mb_per_s);
  }
  hooks.on_begin = deferring_stops(hooks.on_begin);
  hooks.stop_signal = StopSignals::requested;
  std::optional<RunScreen> screen;
  if (options.watch) screen.emplace(run_folder_path(plan.job)).start();
  JobModel model = job_model(plan, data);
  TrainSetup setup = job_setup(plan, model);
  use_options(options, setup.settings);
  const RunLength length = run_length(plan);
  const Expected<RunOutcome> outcome = options.reference ? run_reference(setup, length, hooks)
                                                         : run_in_process(setup, length, hooks);
  reporter.end_progress();
  if (screen) screen->end();
  if (!outcome) return tl::unexpected<Error>(outcome.error());
  const int stop = outcome->stop_signal != 0 ? outcome->stop_signal : StopSignals::requested();
  if (stop == 0) return kExitOk;
  fmt::print(stderr, "plait train: {}\n", stop_words(stop, outcome->steps_done, plan.job));
  return 128 + stop;
}

/// What a run needs of this machine, before anything is made.
Expected<DataSplit> look_around(const JobPlan& plan, const TrainOptions& options,
                                const RankPlace& place) {
  if (plan.job.run.device == "cuda") PLAIT_TRY_VOID(prepare_cuda());
  PLAIT_TRY(DataSplit data, open_data(plan.job.data, plan.job.model.vocab_size));
  if (place.rank <= 0)
    PLAIT_TRY_VOID(RunFolder::check(run_folder_path(plan.job), existing_folder(options)));
  return data;
}

}  // namespace

Expected<int> train(const TrainOptions& given) {
  TrainOptions options = given;
  const StopSignals signals(leave_at_once);
  const ReportSignal report_signal;
  on_lost_data(end_without_data);
  if (options.watch && !is_terminal()) {
    options.watch = false;
    if (std::getenv(kRankVariable) == nullptr)
      print("stdout is no terminal to --watch the run in: plain lines follow\n");
  }
  PLAIT_TRY(JobConfig job, read_job(options));
  PLAIT_TRY_VOID(check_flags(options, job));
  PLAIT_TRY(JobPlan plan, make_plan(std::move(job)));
  PLAIT_TRY(const std::optional<Resume> resume, find_resume(options, plan));
  if (resume) plan.notes.insert(plan.notes.end(), resume->notes.begin(), resume->notes.end());
  if (options.dry_run) {
    PLAIT_TRY_VOID(open_data(plan.job.data, plan.job.model.vocab_size));
    print("{}\n", print_job_config(plan.job));
    PLAIT_TRY_VOID(print_plan(plan, options.reference));
    print("{}", describe_memory(plan.grid(), plan.memory));
    return kExitOk;
  }
  const bool processes = plan.job.run.comm == "gloo" && !options.reference;
  if ((processes || options.reference) &&
      (options.link_latency_us > 0 || options.link_mb_per_s > 0)) {
    return fail(ErrorCode::kInvalidInput,
                "a link is emulated between ranks that are threads, needed --comm inproc",
                "--link-latency-us, --link-mb-per-s");
  }
  RankPlace place;
  if (processes) {
    PLAIT_TRY(place, find_place(current_environment(), options.launcher, plan.ranks()));
  } else {
    PLAIT_TRY_VOID(check_alone(current_environment(), options.launcher));
  }
  const Expected<DataSplit> data = look_around(plan, options, place);
  if (!data) {
    if (place.launcher != Launcher::kLocal)
      tell_those_who_wait({place.rank, place.ranks, place.master_address, place.master_port,
                           place.hosts_store, place.run_id},
                          data.error());
    return tl::unexpected<Error>(data.error());
  }
  if (!processes) return train_here(plan, *data, options, resume);
  return place.rank < 0 ? watch_local_ranks(plan, options)
                        : train_as_rank(plan, *data, options, resume, place);
}

}  // namespace plait::tools
