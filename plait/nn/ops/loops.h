/// The loops of cpu.cc on plain arrays, row-major float32. Know no torch.
#pragma once

#include <cstdint>

namespace plait::loops {

/// y = x * inverse * weight, inverse = 1 / sqrt(mean(x²) + eps) for each of `rows` of `columns`.
void rms_norm(const float* x, const float* weight, double eps, std::int64_t rows,
              std::int64_t columns, float* y, float* inverse);

/// dx = inverse * (dy * weight - x * inverse² * mean(dy * weight * x)).
void rms_norm_input(const float* dy, const float* x, const float* weight, const float* inverse,
                    std::int64_t rows, std::int64_t columns, float* dx);

/// dw = sum over rows of dy * x * inverse, for columns [first, end).
void rms_norm_weight(const float* dy, const float* x, const float* inverse, std::int64_t rows,
                     std::int64_t columns, std::int64_t first, std::int64_t end, float* dw);

/// y = x + bias, for `rows` of `columns`.
void add_bias(const float* x, const float* bias, std::int64_t rows, std::int64_t columns, float* y);

/// db = sum over rows of dy, for columns [first, end).
void bias_gradient(const float* dy, std::int64_t rows, std::int64_t columns, std::int64_t first,
                   std::int64_t end, float* db);

/// Turns pairs (x[i], x[i + half]) of each head by the angle of its position, or back. Rows are
/// (sequence, position) with `heads` heads each; cosine and sine are [length, half].
void rotate(const float* x, const float* cosine, const float* sine, std::int64_t first_row,
            std::int64_t end_row, std::int64_t length, std::int64_t heads, std::int64_t half,
            bool back, float* y);

// Copies of rows: copy j of token t is row places[t * copies + j]. Tokens [first, end).

/// y[t] = sum over j of rows[place], j ascending.
void sum_rows(const float* rows, const std::int64_t* places, std::int64_t first, std::int64_t end,
              std::int64_t copies, std::int64_t columns, float* y);

/// y[t] = base[t] + sum over j of weights[t, j] * rows[place], j ascending.
void add_weighted_rows(const float* base, const float* rows, const float* weights,
                       const std::int64_t* places, std::int64_t first, std::int64_t end,
                       std::int64_t copies, std::int64_t columns, float* y);

/// rows[place] = weights[t, j] * dy[t].
void spread_rows(const float* dy, const float* weights, const std::int64_t* places,
                 std::int64_t first, std::int64_t end, std::int64_t copies, std::int64_t columns,
                 float* rows);

/// dweights[t, j] = sum over columns of dy[t] * rows[place].
void row_products(const float* dy, const float* rows, const std::int64_t* places,
                  std::int64_t first, std::int64_t end, std::int64_t copies, std::int64_t columns,
                  float* dweights);

}  // namespace plait::loops
