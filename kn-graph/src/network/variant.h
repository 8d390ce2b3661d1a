// One form of a model's graph: for certain defaulted inputs given, and certain inputs' content
// fixed.
#pragma once

#include <chrono>
#include <list>
#include <mutex>

#include <kn/graph/backend.h>
#include <kn/graph/network.h>

namespace kn {

/// Adds the milliseconds of its lifetime to a sum.
class StopWatch {
  public:
    explicit StopWatch(double& sum_ms)
        : sum_ms_(sum_ms), start_(std::chrono::steady_clock::now()) {}
    ~StopWatch() {
        sum_ms_ +=
            std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_)
                .count();
    }

  private:
    double& sum_ms_;
    std::chrono::steady_clock::time_point start_;
};

class NetworkVariant {
  public:
    /// Optimises and lowers the graph as the options say.
    NetworkVariant(Graph graph, const NetworkOptions& options);

    const Graph& graph() const { return *graph_; }
    void prepare(const Bindings& dims);
    std::vector<Tensor> run(const std::vector<Tensor>& inputs);
    std::size_t peak_bytes() const;
    SetupTimes setup_times() const;

  private:
    Graph at_sizes(const Bindings& dims) const;
    std::shared_ptr<Executable> plan_for(const Bindings& dims);
    void check_types(const std::vector<Tensor>& inputs) const;

    struct Plan {
        Bindings dims;
        std::shared_ptr<Executable> executable;
    };
    NetworkOptions options_;
    std::shared_ptr<Backend> backend_;
    std::shared_ptr<const Graph> graph_;
    mutable std::mutex mutex_;
    std::list<Plan> plans_;  // the last used first
    std::size_t peak_bytes_ = 0;
    SetupTimes times_;
};

}  // namespace kn
