#include "plait/launch/master_address.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>

#include "plait/base/running_clock.h"

namespace plait {
namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

constexpr const char* kVariable = "MASTER_ADDR";

Expected<Addresses> resolve(const std::string& address, int port) {
  if (address.empty()) {
    return fail(ErrorCode::kInvalidInput, "is empty, needed the address of rank 0's machine",
                kVariable);
  }
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(address.c_str(), std::to_string(port).c_str(), &wanted, &found);
  if (error == 0) return Addresses(found);
  return fail(ErrorCode::kInvalidInput,
              fmt::format("'{}' does not resolve to an address: {}", address,
                          error == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(error)),
              kVariable);
}

/// Within a second or so; reads the clock often enough for it to count all of that.
bool connects(const addrinfo& address, RunningClock& clock) {
  const int socket = ::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket < 0) return false;
  bool connected = connect(socket, address.ai_addr, address.ai_addrlen) == 0;
  bool under_way = !connected && errno == EINPROGRESS;
  for (int tries = 0; under_way && tries < 10; ++tries) {
    pollfd end{socket, POLLOUT, 0};
    under_way = poll(&end, 1, 100) != 1;
    clock.read();
    int error = 1;
    socklen_t size = sizeof(error);
    connected =
        !under_way && getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
  }
  close(socket);
  return connected;
}

}  // namespace

Expected<void> check_address(const std::string& address) {
  PLAIT_TRY_VOID(resolve(address, 1));
  return {};
}

Expected<void> wait_for_listener(const std::string& address, int port, double timeout_s) {
  RunningClock clock;
  PLAIT_TRY(const Addresses addresses, resolve(address, port));
  while (true) {
    for (const addrinfo* one = addresses.get(); one != nullptr; one = one->ai_next) {
      if (connects(*one, clock)) return {};
    }
    if (static_cast<double>(clock.read()) > timeout_s * 1e9) {
      return fail(ErrorCode::kTimeout,
                  fmt::format("rank 0's store at {}:{} (MASTER_ADDR, MASTER_PORT) did not answer "
                              "within {} s",
                              address, port, timeout_s));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

bool is_loopback(const std::string& address) {
  return address == "localhost" || address == "::1" || address.starts_with("127.");
}

Expected<BoundSocket> bind_to_loopback(int port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  const int yes = 1;
  socklen_t size = sizeof(address);
  if (socket >= 0 && setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0 &&
      bind(socket, reinterpret_cast<const sockaddr*>(&address), size) == 0 &&
      getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0)
    return BoundSocket{socket, ntohs(address.sin_port)};
  const int reason = errno;
  if (socket >= 0) close(socket);
  if (reason == EADDRINUSE || reason == EACCES) {
    return fail(ErrorCode::kInvalidInput,
                reason == EACCES ? fmt::format("port {} is not open to this user", port)
                                 : fmt::format("port {} is in use", port));
  }
  return fail(ErrorCode::kRuntime,
              fmt::format("a port of 127.0.0.1 cannot be bound: {}", std::strerror(reason)));
}

std::vector<std::string> network_interfaces() {
  std::vector<std::string> names;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return names;
  for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || (one->ifa_flags & IFF_UP) == 0) continue;
    const auto family = one->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    if (std::find(names.begin(), names.end(), one->ifa_name) == names.end())
      names.emplace_back(one->ifa_name);
  }
  freeifaddrs(list);
  return names;
}

Expected<std::vector<std::string>> chosen_interfaces(const std::string& value,
                                                     const std::vector<std::string>& present) {
  std::vector<std::string> chosen;
  if (value.empty()) return chosen;
  for (std::size_t begin = 0; begin <= value.size();) {
    const std::size_t comma = std::min(value.find(',', begin), value.size());
    chosen.push_back(value.substr(begin, comma - begin));
    begin = comma + 1;
  }
  for (const std::string& name : chosen) {
    if (std::find(present.begin(), present.end(), name) != present.end()) continue;
    return fail(ErrorCode::kInvalidInput,
                fmt::format("'{}' is no network interface with an address here, needed some of {} "
                            "with commas between them",
                            name, fmt::join(present, ", ")),
                "GLOO_SOCKET_IFNAME");
  }
  return chosen;
}

}  // namespace plait
