// The entry of every program of tests; see check.h.
#include "check.h"

int main() {
    return check::run_all();
}
