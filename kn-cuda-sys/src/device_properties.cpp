#include "kn/cuda_sys/device_properties.h"

#include <nlohmann/json.hpp>

#include "check.h"

namespace kn::cuda {

namespace {

// The one list of cuDNN's keys: `visit` gets each with its field. Booleans travel as 0 and 1.
template <class P, class Visit>
void visit_fields(P& p, Visit&& visit) {
    visit("maxGridSize", p.max_grid);
    visit("maxBlockSize", p.max_block);
    visit("regsPerBlock", p.registers_per_block);
    visit("multiProcessorCount", p.sm_count);
    visit("warpSize", p.warp_size);
    visit("maxSharedMemoryPerBlock", p.shared_per_block);
    visit("maxSharedMemoryPerBlockOptin", p.shared_per_block_optin);
    visit("reservedSharedMemoryPerBlock", p.shared_reserved_per_block);
    visit("maxRegistersPerSM", p.registers_per_sm);
    visit("maxCtasPerSM", p.max_blocks_per_sm);
    visit("maxThreadsPerBlock", p.max_threads_per_block);
    visit("maxThreadsPerSM", p.max_threads_per_sm);
    visit("pciDeviceId", p.pci_device);
    visit("isTccDriver", p.tcc_driver);
    visit("supportCoopLaunch", p.cooperative_launch);
    visit("totalGlobalMem", p.total_memory);
    visit("smClockRateKHz", p.clock_khz);
    visit("memClockRateKHz", p.memory_clock_khz);
    visit("l2CacheSize", p.l2_bytes);
    visit("cudaDeviceId", p.index);
    visit("driverVer", p.driver_version);
    visit("deviceName", p.name);
}

struct Write {
    nlohmann::ordered_json& json;

    void operator()(const char* key, bool value) const { json[key] = value ? 1 : 0; }
    template <class T>
    void operator()(const char* key, const T& value) const {
        json[key] = value;
    }
};

struct Read {
    const nlohmann::json& json;

    void operator()(const char* key, bool& value) const { value = json.at(key).get<int>() != 0; }
    template <class T>
    void operator()(const char* key, T& value) const {
        json.at(key).get_to(value);
    }
};

}  // namespace

std::string to_json(const DeviceProperties& properties) {
    nlohmann::ordered_json json;
    visit_fields(properties, Write{json});
    json["deviceVer"] = properties.compute() * 10;
    return json.dump();
}

DeviceProperties device_properties_from_json(const std::string& text) {
    DeviceProperties p;
    try {
        nlohmann::json json = nlohmann::json::parse(text);
        visit_fields(p, Read{json});
        int version = json.at("deviceVer").get<int>();
        p.compute_major = version / 100;
        p.compute_minor = version % 100 / 10;
    } catch (const nlohmann::json::exception& e) {
        KN_CUDA_REQUIRE(false, "device_properties_from_json", "{}", e.what());
    }
    p.shared_per_sm = p.shared_per_block_optin + p.shared_reserved_per_block;
    return p;
}

}  // namespace kn::cuda
