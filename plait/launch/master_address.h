/// The machine where ranks meet: does its name resolve, does something listen there? Knows no
/// torch.
#pragma once

#include <string>
#include <vector>

#include "plait/base/error.h"

namespace plait {

/// Errors (kInvalidInput): `address` is empty or no name of a machine; named as MASTER_ADDR.
/// Takes as long as the system's resolver does.
Expected<void> check_address(const std::string& address);

/// Blocks until something listens at the address; tries ten times a second. Errors: as above;
/// (kTimeout) nothing did for `timeout_s` seconds in which this process ran.
Expected<void> wait_for_listener(const std::string& address, int port, double timeout_s);

/// Whether the address is written as one that only this machine reaches: "localhost", 127.…, "::1".
bool is_loopback(const std::string& address);

/// A socket that is bound to 127.0.0.1, where only this machine reaches it, for who listens on it.
struct BoundSocket {
  int socket = -1;
  int port = 0;
};
/// `port` 0 takes a free one. Errors (kInvalidInput): it is in use; (kRuntime) anything else.
Expected<BoundSocket> bind_to_loopback(int port);

/// The machine's network interfaces that are up and have an address, in the system's order.
std::vector<std::string> network_interfaces();

/// Interfaces of GLOO_SOCKET_IFNAME as torch reads it: a comma-separated list; none if `value` is
/// empty. Errors (kInvalidInput) name one that is not among `present`.
Expected<std::vector<std::string>> chosen_interfaces(const std::string& value,
                                                     const std::vector<std::string>& present);

}  // namespace plait
