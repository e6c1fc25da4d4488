// Runs the command many times for the price of loading libtorch once, which takes a quarter of a
// second: each request is a child of this process, forked before anything of torch has run.
//
//   stdin   {"arguments": ["list"], "folder": "/tmp", "out": "/tmp/out", "err": "/tmp/err"}
//   stdout  0        its exit code, or -9 of a signal
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/plait/commands.h"

namespace {

bool redirect(const std::string& path, int flags, int descriptor) {
  const int file = open(path.c_str(), flags | O_CLOEXEC, 0600);
  return file >= 0 && dup2(file, descriptor) >= 0;
}

[[noreturn]] void run(const nlohmann::json& request) {
  constexpr int kWrite = O_WRONLY | O_CREAT | O_TRUNC;
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

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    const nlohmann::json request = nlohmann::json::parse(line);
    const pid_t child = fork();
    if (child < 0) return 1;
    if (child == 0) run(request);
    int status = 0;
    if (waitpid(child, &status, 0) != child) return 1;
    std::cout << (WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status)) << std::endl;
  }
  return 0;
}
