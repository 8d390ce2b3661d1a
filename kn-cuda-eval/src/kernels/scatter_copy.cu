// y = x. In front: x(element), store(element, value), kElements.
const Int element = (Int)blockIdx.x * blockDim.x + threadIdx.x;
if (element < kElements) store(element, x(element));
