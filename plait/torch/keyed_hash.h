/// A hash that only who knows the key can make.
#pragma once

#include <string>

namespace plait {

/// HMAC of `text` under `key`, over SHA-1: 40 hexadecimal digits.
/// Source: RFC 2104; the hash is c10's.
std::string keyed_hash(const std::string& key, const std::string& text);

}  // namespace plait
