# nooelint: oelint.var.mandatoryvar.HOMEPAGE - the tree that this layer lies in is its only home
SUMMARY = "Where familiar keeps what it must remember, on an image whose root is read-only"
DESCRIPTION = "Puts /var/lib/familiar on the data partition (/data, mounted by familiar-image), and takes the device's configuration from there. Trust anchors stay in the read-only root."
SECTION = "misc"
LICENSE = "Apache-2.0"
# nooelint: oelint.var.licenseremotefile - a handful of files of this layer, under its licence
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

SRC_URI = "\
    file://familiar-data.service \
    file://familiar-data.sh \
    file://familiar.toml \
    file://var-lib-familiar.mount \
"

S = "${UNPACKDIR}"

inherit systemd features_check

REQUIRED_DISTRO_FEATURES = "systemd"

SYSTEMD_SERVICE:${PN} = "familiar-data.service var-lib-familiar.mount"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${systemd_system_unitdir} ${D}/data
    install -m 0644 ${S}/familiar-data.service ${S}/var-lib-familiar.mount ${D}${systemd_system_unitdir}/
    install -D -m 0755 ${S}/familiar-data.sh ${D}${libexecdir}/familiar-data
    install -D -m 0644 ${S}/familiar.toml ${D}${datadir}/familiar/familiar.toml
    install -d ${D}${sysconfdir}/familiar
    for name in familiar.toml operators.jwks; do
        ln -s /data/config/$name ${D}${sysconfdir}/familiar/$name
    done
}

FILES:${PN} += "/data ${datadir}/familiar ${libexecdir}/familiar-data"
RDEPENDS:${PN} += "familiar"
