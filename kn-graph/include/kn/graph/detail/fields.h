// KN_FIELDS names the fields of a struct once, for everything that visits them.
//
//     struct Permute {
//         Value x;
//         Ints perm;
//         KN_FIELDS(x, perm)   // Permute{...}.each_field(f) calls f("x", x), f("perm", perm)
//     };
#pragma once

#define KN_FIELDS(...)                           \
    template <class F>                           \
    void each_field(F&& f) {                     \
        KN_FOR_EACH(KN_VISIT_FIELD, __VA_ARGS__) \
    }                                            \
    template <class F>                           \
    void each_field(F&& f) const {               \
        KN_FOR_EACH(KN_VISIT_FIELD, __VA_ARGS__) \
    }
#define KN_VISIT_FIELD(field) f(#field, field);
#define KN_PARENS ()
#define KN_EXPAND(...) KN_EXPAND3(KN_EXPAND3(KN_EXPAND3(__VA_ARGS__)))
#define KN_EXPAND3(...) KN_EXPAND2(KN_EXPAND2(KN_EXPAND2(__VA_ARGS__)))
#define KN_EXPAND2(...) KN_EXPAND1(KN_EXPAND1(KN_EXPAND1(__VA_ARGS__)))
#define KN_EXPAND1(...) __VA_ARGS__
#define KN_FOR_EACH(macro, ...) __VA_OPT__(KN_EXPAND(KN_FOR_EACH_STEP(macro, __VA_ARGS__)))
#define KN_FOR_EACH_STEP(macro, first, ...) \
    macro(first) __VA_OPT__(KN_FOR_EACH_AGAIN KN_PARENS(macro, __VA_ARGS__))
#define KN_FOR_EACH_AGAIN() KN_FOR_EACH_STEP
