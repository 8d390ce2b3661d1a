#include "executor/constants.h"

#include <compare>
#include <cstring>
#include <map>
#include <mutex>

#include "executor/strided.h"

namespace kn::cuda {

namespace {

bool is_identity(const Ints& order) {
    for (std::size_t i = 0; i < order.size(); i++)
        if (order[i] != static_cast<std::int64_t>(i)) return false;
    return true;
}

Tensor permuted(const Tensor& tensor, const Ints& order) {
    const std::size_t rank = tensor.rank();
    Ints dense(rank, 1), shape, strides;
    for (std::size_t i = rank; i-- > 1;) dense[i - 1] = dense[i] * tensor.shape()[i];
    for (const std::int64_t axis : order) {
        KN_CHECK(axis >= 0 && axis < static_cast<std::int64_t>(rank));
        shape.push_back(tensor.shape()[static_cast<std::size_t>(axis)]);
        strides.push_back(dense[static_cast<std::size_t>(axis)]);
    }
    Tensor out(tensor.dtype(), shape);
    gather_strided(tensor.bytes().data(), out.mutable_bytes().data(), size_of(tensor.dtype()),
                   shape, strides);
    return out;
}

// Elements as the network's file has them. A weight that a precision policy has cast anew for every
// plan is still the same weight: it is known by what it was cast from.
struct Origin {
    const void* elements;
    Ints shape;
    DType from, via;
    auto operator<=>(const Origin&) const = default;
};

// What decides the bytes on the device.
struct Key {
    int device;
    std::vector<Origin> parts;
    std::int64_t axis;
    DType dtype;
    Ints order;
    auto operator<=>(const Key&) const = default;
};

const Tensor& origin(const ConstantData& data) {
    if (!data.recipe || !std::holds_alternative<op::Cast>(data.recipe->operation))
        return data.tensor;
    const Tensor& before = data.recipe->inputs.at(0)->tensor;
    return before.shape() == data.tensor.shape() ? before : data.tensor;
}

Key key_of(int device, const PlanConstant& constant) {
    Key key{device, {}, constant.axis, constant.dtype, constant.order};
    for (const auto& part : constant.parts) {
        const Tensor& from = origin(*part);
        key.parts.push_back(
            {from.storage().get(), from.shape(), from.dtype(), part->tensor.dtype()});
    }
    if (is_identity(key.order)) key.order.clear();
    return key;
}

// Keeps the host's elements too: their addresses are part of the key.
struct Uploaded : DeviceConstant {
    std::vector<std::shared_ptr<const std::byte>> elements;
};

struct Registry {
    std::mutex mutex;
    std::map<Key, std::weak_ptr<const DeviceConstant>> known;
};

Registry& registry() {
    static Registry instance;
    return instance;
}

// The parts one behind the other, in the constant's type.
Tensor joined(const PlanConstant& constant, const Ints& shape) {
    const auto cast = [&](const Tensor& tensor) {
        return tensor.dtype() == constant.dtype ? tensor : tensor.cast(constant.dtype);
    };
    if (constant.parts.size() == 1) return cast(constant.parts[0]->tensor);
    Tensor out(constant.dtype, shape);
    if (out.size() == 0) return out;
    std::size_t outer = 1, inner = size_of(constant.dtype);
    for (std::size_t i = 0; i < shape.size(); i++) {
        if (static_cast<std::int64_t>(i) < constant.axis)
            outer *= static_cast<std::size_t>(shape[i]);
        if (static_cast<std::int64_t>(i) > constant.axis)
            inner *= static_cast<std::size_t>(shape[i]);
    }
    const std::size_t pitch = out.byte_size() / outer;
    std::byte* target = out.mutable_bytes().data();
    for (const auto& data : constant.parts) {
        const Tensor part = cast(data->tensor);
        const std::size_t row = part.byte_size() / outer;
        KN_CHECK(row % inner == 0, data->name);
        for (std::size_t i = 0; i < outer && row > 0; i++)
            std::memcpy(target + i * pitch, part.bytes().data() + i * row, row);
        target += row;
    }
    return out;
}

}  // namespace

Tensor lay_out(const PlanConstant& constant) {
    const Ints shape = constant.shape();
    KN_CHECK(constant.order.empty() || constant.order.size() == shape.size(),
             constant.parts.at(0)->name);
    const Tensor whole = joined(constant, shape);
    return is_identity(constant.order) ? whole : permuted(whole, constant.order);
}

std::size_t device_bytes(const PlanConstant& constant) {
    const std::size_t bytes =
        static_cast<std::size_t>(checked_size(constant.shape())) * size_of(constant.dtype);
    return (bytes + Arena::alignment - 1) / Arena::alignment * Arena::alignment;
}

std::vector<std::shared_ptr<const DeviceConstant>> upload_constants(
    StreamRef stream, const std::vector<PlanConstant>& constants, std::size_t& allocated) {
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    std::erase_if(all.known, [](const auto& entry) { return entry.second.expired(); });

    std::vector<std::shared_ptr<const DeviceConstant>> result;
    std::map<Key, std::shared_ptr<Uploaded>> missing;
    std::size_t bytes = 0;
    for (const PlanConstant& constant : constants) {
        const Key key = key_of(stream.device().index(), constant);
        const auto found = all.known.find(key);
        if (auto live = found == all.known.end() ? nullptr : found->second.lock()) {
            result.push_back(std::move(live));
            continue;
        }
        auto& entry = missing[key];
        if (!entry) {
            entry = std::make_shared<Uploaded>();
            bytes += device_bytes(constant);
        }
        result.push_back(entry);
    }
    allocated = bytes;
    if (missing.empty()) return result;

    const auto memory = std::make_shared<const DeviceMemory>(stream.device(), bytes);
    auto* next = static_cast<std::byte*>(memory->data());
    for (const PlanConstant& constant : constants) {
        const auto found = missing.find(key_of(stream.device().index(), constant));
        if (found == missing.end() || found->second->memory) continue;
        const Tensor tensor = lay_out(constant);
        Uploaded& entry = *found->second;
        entry.memory = memory;
        for (const auto& part : constant.parts) entry.elements.push_back(origin(*part).storage());
        entry.address = next;
        copy_bytes_async(stream, next, tensor.bytes().data(), tensor.byte_size());
        next += device_bytes(constant);
        // The elements may go with `tensor`.
        stream.synchronize();
    }
    for (const auto& [key, entry] : missing) all.known.insert_or_assign(key, entry);
    return result;
}

}  // namespace kn::cuda
