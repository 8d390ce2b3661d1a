// Builds a small network in code.
#include <kn/graph.h>

#include <cstdio>
#include <string>

#ifdef CONSUMER_HAS_UMBRELLA
#include <kn/kn.h>
#endif

int main() {
    kn::Graph graph;
    const kn::Var x = graph.input("x", kn::DType::F32, {kn::Dim::symbol("batch"), 2});
    graph.output("y", kn::relu(x) * 2.0);
    std::printf("kn %s\n%s", kn::version(), graph.to_string().c_str());
    return graph.outputs().size() == 1 ? 0 : 1;
}
