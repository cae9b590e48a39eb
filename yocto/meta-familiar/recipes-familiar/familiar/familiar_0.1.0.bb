# nooelint: oelint.var.mandatoryvar.HOMEPAGE - the tree that this layer lies in is its only home
SUMMARY = "Knows the faces of a household or a site and tells of them in signed facts"
DESCRIPTION = "A daemon that watches a camera, recognises the people who were enrolled, and tells of them over MQTT in small signed messages. Neural networks run in the process; a model that no trusted key has signed is never loaded."
SECTION = "misc"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

DEPENDS = "clang-native"

inherit cargo externalsrc pkgconfig systemd useradd features_check

# The tree that the layer lies in, as it is: what is checked out is what is built.
EXTERNALSRC = "${FAMILIAR_TREE}"
EXTERNALSRC_BUILD = "${WORKDIR}/build"
# nooelint: oelint.vars.mispell.unknown - of externalsrc.bbclass
EXTERNALSRC_SYMLINKS = ""

REQUIRED_DISTRO_FEATURES = "systemd"

require ${BPN}-crates.inc

# `crate://REGISTRY/NAME/VERSION`, as cargo-update-recipe-crates.bbclass writes them, but the registry is that of Cargo.lock, whose
# word it is, and not repeated 275 times here. A mirror of one's own takes its place in FAMILIAR_REGISTRY.
# nooelint: oelint.vars.mispell.unknown - our own
FAMILIAR_REGISTRY ?= "${@registry_of_lock(d)}"
SRC_URI = "${@' '.join('crate://${FAMILIAR_REGISTRY}/' + crate for crate in d.getVar('FAMILIAR_CRATES').split())}"

def registry_of_lock(d):
    import os
    import tomllib
    path = os.path.join(d.getVar("FAMILIAR_TREE"), "Cargo.lock")
    bb.parse.mark_dependency(d, path)
    with open(path, "rb") as file:
        packages = tomllib.load(file)["package"]
    # "registry+https://HOST/OWNER/REGISTRY-index"
    sources = {package["source"] for package in packages if "source" in package}
    if len(sources) != 1:
        bb.fatal("%s names other sources than one registry: %s" % (path, ", ".join(sorted(sources))))
    return sources.pop().rsplit("/", 1)[1].removesuffix("-index")

# The program alone; tests, benchmarks and examples are no part of an image.
CARGO_BUILD_FLAGS:append = " --bin familiar"

# v4l2-sys-mit reads the kernel's header through libclang.
export LIBCLANG_PATH = "${STAGING_LIBDIR_NATIVE}"
# nooelint: oelint.vars.mispell.unknown - read by bindgen
BINDGEN_EXTRA_CLANG_ARGS = "${HOST_CC_ARCH}${TOOLCHAIN_OPTIONS} --target=${TARGET_SYS}"
export BINDGEN_EXTRA_CLANG_ARGS

do_install() {
    install -D -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/familiar ${D}${bindir}/familiar
    install -D -m 0644 ${S}/systemd/familiar.service ${D}${systemd_system_unitdir}/familiar.service
    install -D -m 0644 ${S}/systemd/familiar@.service ${D}${systemd_system_unitdir}/familiar@.service
    install -D -m 0644 ${S}/systemd/familiar-camera@.service ${D}${systemd_system_unitdir}/familiar-camera@.service
    install -D -m 0755 ${S}/systemd/camera-came ${D}${libexecdir}/familiar/camera-came
    # The unit names it by Debian's path.
    sed -i 's|/usr/libexec|${libexecdir}|' ${D}${systemd_system_unitdir}/familiar-camera@.service
    install -D -m 0644 ${S}/systemd/70-familiar-camera.rules ${D}${nonarch_base_libdir}/udev/rules.d/70-familiar-camera.rules
    install -D -m 0644 ${S}/systemd/chrony.conf ${D}${systemd_system_unitdir}/familiar.service.d/chrony.conf
    install -D -m 0644 ${S}/systemd/chrony.conf ${D}${systemd_system_unitdir}/familiar@.service.d/chrony.conf
    install -d ${D}${sysconfdir}/familiar/trust.d
}

# The kernel may be asked whether the clock is right: only where chrony keeps it.
PACKAGES =+ "${PN}-chrony"
# nooelint: oelint.var.filesoverride - a package of our own, which begins with nothing
FILES:${PN}-chrony = "\
    ${systemd_system_unitdir}/familiar.service.d/chrony.conf \
    ${systemd_system_unitdir}/familiar@.service.d/chrony.conf \
"
FILES:${PN} += "${systemd_system_unitdir}/familiar@.service ${systemd_system_unitdir}/familiar-camera@.service ${nonarch_base_libdir}/udev/rules.d"
RDEPENDS:${PN} += "ca-certificates"
RDEPENDS:${PN}-chrony += "${PN} chrony"
RRECOMMENDS:${PN} += "familiar-bundle kernel-module-uvcvideo"

SYSTEMD_SERVICE:${PN} = "familiar.service"
SYSTEMD_AUTO_ENABLE:${PN} = "enable"

# In place of systemd/familiar.sysusers, so that a read-only root has the user.
USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --home-dir ${localstatedir}/lib/familiar --no-create-home --shell ${base_sbindir}/nologin --user-group --groups video familiar"
