// Flights and their Arrow form, for the examples.
#ifndef EXAMPLES_FLIGHT_HPP
#define EXAMPLES_FLIGHT_HPP

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "arrow_batch.hpp"

struct Flight {
  std::int16_t delay;
  std::int16_t distance;
  float time;

  int hour() const { return static_cast<int>(time); }

  /// Added up over all flights this tells two tables apart, in whatever order their rows are.
  std::uint64_t hash() const {
    std::uint32_t time_bits = 0;
    std::memcpy(&time_bits, &time, sizeof(time_bits));
    std::uint64_t bits = std::uint64_t{time_bits} << 32 | std::uint64_t{static_cast<std::uint16_t>(delay)} << 16 |
                         static_cast<std::uint16_t>(distance);
    bits = (bits ^ bits >> 31) * 0x9e3779b97f4a7c15U;
    return (bits ^ bits >> 29) * 0xbf58476d1ce4e5b9U;
  }
};

using Flights = std::vector<Flight>;

inline khonsu::ArrowArray to_arrow(const Flights &flights) {
  std::vector<std::int16_t> delay;
  std::vector<std::int16_t> distance;
  std::vector<float> time;
  for (const Flight &flight : flights) {
    delay.push_back(flight.delay);
    distance.push_back(flight.distance);
    time.push_back(flight.time);
  }
  return arrow_batch::batch(std::move(delay), std::move(distance), std::move(time));
}

template <typename Visit>
void for_each_flight(const khonsu::ArrowArray &batch, Visit visit) {
  const auto *delay = arrow_batch::values<std::int16_t>(batch, 0);
  const auto *distance = arrow_batch::values<std::int16_t>(batch, 1);
  const auto *time = arrow_batch::values<float>(batch, 2);
  for (std::int64_t row = 0; row < batch->length; ++row) visit(Flight{delay[row], distance[row], time[row]});
}

#endif
