// A scatter of few updates without reduction in one pass: each element of the result looks which
// update comes to it last.
// In front: place(i, lane), place_of(element), lane_of(element), x, updates(i, lane), store,
// kElements, kCount.
const Int element = (Int)blockIdx.x * blockDim.x + threadIdx.x;
if (element >= kElements) return;
const Int lane = lane_of(element);
const Int own = place_of(element);
Int i = kCount - 1;
while (i >= 0 && place(i, lane) != own) --i;
store(element, i >= 0 ? updates(i, lane) : x(element));
