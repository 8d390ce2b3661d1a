// A weight's elements as the device wants them, made piece by piece.
//
//     const LaidOut weight(plan.constants[i]);
//     weight.write(0, weight.rows(), staging);
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include <kn/cuda_eval/plan.h>

namespace kn::cuda {

/// The elements as the constant asks: in its dtype, axes in its order, dense.
class LaidOut {
  public:
    /// Throws InternalError if the order does not fit the shape.
    explicit LaidOut(const PlanConstant& constant);

    /// Pieces are cut along the outermost axis that is longer than one.
    std::int64_t rows() const { return rows_; }
    std::size_t row_bytes() const { return row_bytes_; }
    /// How long a row takes, about: as long as copying this many bytes. At least 1.
    std::size_t row_work() const;
    /// Writes rows [begin, end). Thread-safe.
    void write(std::int64_t begin, std::int64_t end, std::byte* target) const;

  private:
    struct Part {
        Tensor from;
        Ints shape, strides;      // axes in the order of the target
        std::int64_t offset = 0;  // along the joined axis
    };
    void fold(const PlanConstant& constant);
    void scale_rows(const std::byte* source, std::int64_t rows, std::byte* target) const;
    void write_filtered(std::int64_t begin, std::int64_t end, std::byte* target) const;
    void write_sums(std::int64_t begin, std::int64_t end, std::byte* target) const;
    void gather(std::int64_t begin, std::int64_t end, std::byte* target) const;
    void convert(std::int64_t begin, std::int64_t end, std::byte* target) const;

    std::vector<Part> parts_;
    DType from_, to_;  // to_: F32 where weights are filtered
    bool filtered_ = false;
    Tf32Part tf32_ = Tf32Part::None;
    Ints shape_, strides_;    // of the target
    std::size_t joined_ = 0;  // the axis along which parts follow each other
    std::size_t row_axis_ = 0;
    std::int64_t rows_ = 1;
    std::size_t row_bytes_ = 0;
    // Of folded rows: the factors of a row of the target; of sums: the weights that are added up.
    std::vector<float> scale_, shift_;
    std::unique_ptr<const LaidOut> scaled_, plain_;
};

/// The part of x; halves are rounded away from zero.
float tf32_part(float x, Tf32Part part);

}  // namespace kn::cuda
