# File formats and the golden files: safetensors, Hugging Face folders, the model against PyTorch.
lathe_test(lathe_formats_tests
  safetensors_test.cpp hugging_face_test.cpp hugging_face_config_test.cpp hugging_face_folder_test.cpp
  golden_test.cpp host_golden_worlds.cpp
  LINK lathe_model lathe_reference lathe_cpu)
target_compile_definitions(lathe_formats_tests PRIVATE LATHE_GOLDEN_FOLDER="${CMAKE_SOURCE_DIR}/tests/golden")

lathe_cuda_test(cuda_golden_test golden_test.cpp cuda_golden_worlds.cpp LINK lathe_model lathe_cuda)
if(LATHE_CUDA)
  target_compile_definitions(cuda_golden_test PRIVATE LATHE_GOLDEN_FOLDER="${CMAKE_SOURCE_DIR}/tests/golden")
endif()
