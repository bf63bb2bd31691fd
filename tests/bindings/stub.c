/* The functions that TensorRT's Python bindings are linked against: there to be found, and they make nothing. */
#include <stddef.h>

#define MAKES_NOTHING(name) void *name(void) { return NULL; }
MAKES_NOTHING(createInferBuilder_INTERNAL)
MAKES_NOTHING(createInferRefitter_INTERNAL)
MAKES_NOTHING(createInferRuntime_INTERNAL)
MAKES_NOTHING(createNvOnnxParserRefitter_INTERNAL)
MAKES_NOTHING(createNvOnnxParser_INTERNAL)
MAKES_NOTHING(getBuilderPluginRegistry)
MAKES_NOTHING(getPluginRegistry)
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void) { return 1; }
