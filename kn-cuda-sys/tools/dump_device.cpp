// dump_device [INDEX]: prints a GPU's properties as the JSON that planning without a device takes.
#include <cstdio>
#include <cstdlib>

#include "kn/cuda.h"

int main(int argc, char** argv) {
    try {
        kn::cuda::Device device(argc > 1 ? std::atoi(argv[1]) : 0);
        std::printf("%s\n", kn::cuda::to_json(device.properties()).c_str());
        return 0;
    } catch (const kn::cuda::Error& e) {
        std::fprintf(stderr, "dump_device: %s\n", e.what());
        return 3;
    }
}
