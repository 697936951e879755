# Defines khonsu::khonsu and khonsu::static, for the build tree and for an installed package alike, and khonsu::xa, which
# the build tree has already. Wants khonsu_library_dir, khonsu_include_dir, khonsu_shared, khonsu_soname,
# khonsu_xa_shared and khonsu_xa_soname.

# What rustc names as the static library's native libraries.
set(khonsu_static_libraries gcc_s util rt pthread m dl c)

if(NOT TARGET khonsu::khonsu)
  add_library(khonsu::khonsu SHARED IMPORTED GLOBAL)
  set_target_properties(khonsu::khonsu PROPERTIES
    IMPORTED_LOCATION "${khonsu_library_dir}/${khonsu_shared}"
    IMPORTED_SONAME "${khonsu_soname}"
    INTERFACE_INCLUDE_DIRECTORIES "${khonsu_include_dir}")
endif()

if(NOT TARGET khonsu::static)
  add_library(khonsu::static STATIC IMPORTED GLOBAL)
  set_target_properties(khonsu::static PROPERTIES
    IMPORTED_LOCATION "${khonsu_library_dir}/libkhonsu.a"
    IMPORTED_LINK_INTERFACE_LANGUAGES C
    INTERFACE_INCLUDE_DIRECTORIES "${khonsu_include_dir}"
    INTERFACE_LINK_LIBRARIES "${khonsu_static_libraries}")
endif()

if(NOT TARGET khonsu::xa)
  add_library(khonsu::xa SHARED IMPORTED GLOBAL)
  set_target_properties(khonsu::xa PROPERTIES
    IMPORTED_LOCATION "${khonsu_library_dir}/${khonsu_xa_shared}"
    IMPORTED_SONAME "${khonsu_xa_soname}"
    INTERFACE_INCLUDE_DIRECTORIES "${khonsu_include_dir}"
    INTERFACE_LINK_LIBRARIES khonsu::khonsu)
endif()
