// The result of a scatter without reduction: the last update where there is one.
// In front: mark, place_of(element), lane_of(element), x, updates(i, lane), store, kElements.
const Int element = (Int)blockIdx.x * blockDim.x + threadIdx.x;
if (element >= kElements) return;
const int winner = mark[place_of(element)];
store(element, winner > 0 ? updates(winner - 1, lane_of(element)) : x(element));
