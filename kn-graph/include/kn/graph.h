// All of kn-graph: build or load a network, optimise it, run it on the CPU.
//
//     #include <kn/graph.h>
//     kn::Graph g;
//     kn::Var x = g.input("x", kn::DType::F32, {2, 3});
//     g.output("y", kn::relu(x));
#pragma once

#include <kn/graph/backend.h>
#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>
#include <kn/graph/decompose.h>
#include <kn/graph/device.h>
#include <kn/graph/dim.h>
#include <kn/graph/dtype.h>
#include <kn/graph/error.h>
#include <kn/graph/graph.h>
#include <kn/graph/network.h>
#include <kn/graph/npy.h>
#include <kn/graph/onnx.h>
#include <kn/graph/ops.h>
#include <kn/graph/optimizer.h>
#include <kn/graph/precision.h>
#include <kn/graph/random.h>
#include <kn/graph/scalar_ops.h>
#include <kn/graph/shape.h>
#include <kn/graph/tensor.h>
#include <kn/graph/version.h>
