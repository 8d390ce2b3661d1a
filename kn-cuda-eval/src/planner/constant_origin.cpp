#include "planner/constant_origin.h"

namespace kn::cuda {

const Tensor& origin(const ConstantData& data) {
    if (!data.recipe || !std::holds_alternative<op::Cast>(data.recipe->operation))
        return data.tensor;
    const Tensor& before = data.recipe->inputs.at(0)->tensor;
    return before.shape() == data.tensor.shape() ? before : data.tensor;
}

}  // namespace kn::cuda
