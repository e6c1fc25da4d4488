#include "tools/plait/commands.h"

int main(int argc, char** argv) { return plait::tools::run_command(argc, argv); }
