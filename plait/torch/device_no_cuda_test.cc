#include <gtest/gtest.h>

#include <string>

#include "plait/torch/device_cuda.h"

namespace plait {
namespace {

TEST(NoCudaDevice, SaysWhyInALine) {
  EXPECT_EQ(cuda_devices(), 0);
  const auto device = make_cuda_device(0);
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().code, ErrorCode::kNotBuilt);
  EXPECT_NE(device.error().text().find("this version was built without CUDA"), std::string::npos);
  EXPECT_EQ(device.error().text().find('\n'), std::string::npos);
}

}  // namespace
}  // namespace plait
