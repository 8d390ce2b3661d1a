// What precedes every kernel.
