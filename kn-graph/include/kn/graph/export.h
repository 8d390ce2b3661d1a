// KN_API marks what a shared libkn exports; everything else stays hidden.
#pragma once

#define KN_API __attribute__((visibility("default")))
