#include "plait/launch/master_address.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

namespace plait {
namespace {

/// A socket that is bound to a free port of loopback.
class Socket {
 public:
  Socket() : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address_);
    auto* address = reinterpret_cast<sockaddr*>(&address_);
    EXPECT_EQ(bind(socket_, address, size), 0);
    EXPECT_EQ(getsockname(socket_, address, &size), 0);
  }
  ~Socket() { close(socket_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  void open() const { EXPECT_EQ(listen(socket_, 4), 0); }
  int port() const { return ntohs(address_.sin_port); }

 private:
  int socket_;
  sockaddr_in address_{};
};

TEST(MasterAddress, ANameThatDoesNotResolveIsAnErrorAtOnce) {
  EXPECT_TRUE(check_address("127.0.0.1"));
  const Expected<void> empty = check_address("");
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().text(), "MASTER_ADDR: is empty, needed the address of rank 0's machine");
  const Expected<void> unknown = wait_for_listener("no-such-host.invalid", 1, 1e9);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::kInvalidInput);
  EXPECT_EQ(unknown.error().text().substr(0, 66),
            "MASTER_ADDR: 'no-such-host.invalid' does not resolve to an address");
}

TEST(MasterAddress, WaitsForAListener) {
  const Socket socket;
  const Expected<void> none = wait_for_listener("127.0.0.1", socket.port(), 0.05);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ErrorCode::kTimeout);
  EXPECT_EQ(none.error().text(), "rank 0's store at 127.0.0.1:" + std::to_string(socket.port()) +
                                     " (MASTER_ADDR, MASTER_PORT) did not answer within 0.05 s");
  socket.open();
  EXPECT_TRUE(wait_for_listener("127.0.0.1", socket.port(), 600));
}

TEST(Interfaces, AreAListWithCommasOrNone) {
  const std::vector<std::string> present = {"lo", "eth0", "ib0"};
  using Names = std::vector<std::string>;
  EXPECT_EQ(*chosen_interfaces("", present), Names());
  EXPECT_EQ(*chosen_interfaces("eth0", present), Names({"eth0"}));
  EXPECT_EQ(*chosen_interfaces("lo,ib0", present), Names({"lo", "ib0"}));
  for (const std::string wrong : {"lo,eth9", "eth9"}) {
    const Expected<Names> none = chosen_interfaces(wrong, present);
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().text(),
              "GLOO_SOCKET_IFNAME: 'eth9' is no network interface with an address here, needed "
              "some of lo, eth0, ib0 with commas between them");
  }
  EXPECT_FALSE(chosen_interfaces("lo,", present));
}

TEST(Interfaces, OfThisMachineHaveLoopback) {
  const std::vector<std::string> here = network_interfaces();
  EXPECT_NE(std::find(here.begin(), here.end(), "lo"), here.end());
}

TEST(Loopback, APortIsOfThisMachineAlone) {
  const Expected<BoundSocket> bound = bind_to_loopback(0);
  ASSERT_TRUE(bound) << bound.error().text();
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  ASSERT_EQ(getsockname(bound->socket, reinterpret_cast<sockaddr*>(&address), &size), 0);
  EXPECT_EQ(ntohl(address.sin_addr.s_addr), INADDR_LOOPBACK);
  EXPECT_EQ(ntohs(address.sin_port), bound->port);
  ASSERT_EQ(listen(bound->socket, 1), 0);
  EXPECT_EQ(bind_to_loopback(bound->port).error().message,
            "port " + std::to_string(bound->port) + " is in use");
  close(bound->socket);
}

TEST(Loopback, IsToldByHowItIsWritten) {
  for (const char* address : {"localhost", "127.0.0.1", "127.0.1.1", "::1"})
    EXPECT_TRUE(is_loopback(address)) << address;
  for (const char* address : {"node1", "10.0.0.1", "localhost.example.org", ""})
    EXPECT_FALSE(is_loopback(address)) << address;
}

}  // namespace
}  // namespace plait
