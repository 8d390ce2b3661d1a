#include <kn/graph/version.h>

#include <cstdio>
#include <string>

int main() {
    std::printf("kn %s\n", kn::version());
    return std::string(kn::version()).empty() ? 1 : 0;
}
