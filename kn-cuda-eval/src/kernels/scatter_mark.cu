// For each place of the result the last update that goes there, counted from 1; 0: none.
// In front: place(i, lane), the place's number; mark, zeros; kCount, kLanes.
const Int task = (Int)blockIdx.x * blockDim.x + threadIdx.x;
if (task < (Int)kCount * kLanes)
    kn_atomic_max(mark + place(task / kLanes, task % kLanes), (int)(task / kLanes) + 1);
