// Runs the command many times for the price of loading libtorch once, which takes a quarter of a
// second: each request is a child of this process, forked before anything of torch has run. With
// "ranks" it is as many children, started as torchrun starts its own; what they print is appended.
//
//   stdin   {"arguments": ["list"], "folder": "/tmp", "out": "/tmp/o", "err": "/tmp/e", "ranks": 0}
//   stdout  0        its exit code, or -9 of a signal; of ranks that of the first that failed
//
//   stdin   the same with "start": true
//   stdout  4711     its process, which a test may signal
//   stdin   {"wait": 4711}, or {"poll": 4711}, which does not block
//   stdout  0        its exit code, or -9 of a signal, or "runs"
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "plait/launch/master_address.h"
#include "tools/plait/commands.h"

namespace {

bool redirect(const std::string& path, int flags, int descriptor) {
  const int file = open(path.c_str(), flags | O_CLOEXEC, 0600);
  return file >= 0 && dup2(file, descriptor) >= 0;
}

[[noreturn]] void run(const nlohmann::json& request) {
  constexpr int kWrite = O_WRONLY | O_CREAT | O_APPEND;
  std::vector<std::string> arguments = request.at("arguments");
  arguments.insert(arguments.begin(), "plait");
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  if (chdir(std::string(request.at("folder")).c_str()) != 0 ||
      !redirect("/dev/null", O_RDONLY, STDIN_FILENO) ||
      !redirect(request.at("out"), kWrite, STDOUT_FILENO) ||
      !redirect(request.at("err"), kWrite, STDERR_FILENO))
    _exit(125);
  std::exit(plait::tools::run_command(static_cast<int>(arguments.size()), pointers.data()));
}

/// A port that nobody has now.
int free_port() {
  const auto bound = plait::bind_to_loopback(0);
  if (!bound) std::exit(1);
  close(bound->socket);
  return bound->port;
}

/// In a child: what torchrun tells a rank.
void become_rank(int rank, int ranks, int port) {
  setenv("RANK", std::to_string(rank).c_str(), 1);
  setenv("LOCAL_RANK", std::to_string(rank).c_str(), 1);
  setenv("WORLD_SIZE", std::to_string(ranks).c_str(), 1);
  setenv("MASTER_ADDR", "127.0.0.1", 1);
  setenv("MASTER_PORT", std::to_string(port).c_str(), 1);
}

int code_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status); }

/// `prepare` runs in the child before the command does.
template <typename Prepare>
pid_t start(const nlohmann::json& request, Prepare prepare) {
  const pid_t child = fork();
  if (child < 0) std::exit(1);
  if (child != 0) return child;
  prepare();
  run(request);
}

std::string state_of(pid_t child, int options) {
  int status = 0;
  return waitpid(child, &status, options) == child ? std::to_string(code_of(status)) : "runs";
}

/// The exit code of all.
std::string run_to_end(const nlohmann::json& request) {
  const int ranks = request.value("ranks", 0);
  std::vector<pid_t> children;
  if (ranks == 0) children.push_back(start(request, [] {}));
  const int port = ranks > 0 ? free_port() : 0;
  for (int rank = 0; rank < ranks; ++rank)
    children.push_back(start(request, [&] { become_rank(rank, ranks, port); }));
  std::string code = "0";
  for (const pid_t child : children) {
    const std::string one = state_of(child, 0);
    if (code == "0") code = one;
  }
  return code;
}

}  // namespace

int main(int argc, char** /*argv*/) {
  if (argc > 1) return 125;  // a run of the server's starts its ranks as this program anew
  for (std::string line; std::getline(std::cin, line);) {
    const nlohmann::json request = nlohmann::json::parse(line);
    if (request.contains("start")) {
      std::cout << start(request, [] {}) << std::endl;
    } else if (request.contains("poll")) {
      std::cout << state_of(request["poll"], WNOHANG) << std::endl;
    } else if (request.contains("wait")) {
      std::cout << state_of(request["wait"], 0) << std::endl;
    } else {
      std::cout << run_to_end(request) << std::endl;
    }
  }
  return 0;
}
