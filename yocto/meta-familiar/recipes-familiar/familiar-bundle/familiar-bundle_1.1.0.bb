# nooelint: oelint.var.mandatoryvar.HOMEPAGE, oelint.var.mandatoryvar.SRC_URI - all comes from FAMILIAR_BUNDLE; the tree that this layer lies in is its only home
SUMMARY = "Signed model bundle for familiar, and the keys that models are trusted by"
DESCRIPTION = "The networks that familiar runs, signed. Building and signing them is a step of its own (`make models`), on a machine that holds the key: no key comes near this build. FAMILIAR_BUNDLE names the folder of the signed bundle, FAMILIAR_TRUST the folder of the public keys (*.pub) that the device shall trust."
SECTION = "misc"
LICENSE = "Apache-2.0 & MIT"
# The licences of the networks are in the bundle's CARD.md; these are the texts of the kinds.
# nooelint: oelint.var.licenseremotefile - a bundle brings no licence text but its card
LIC_FILES_CHKSUM = "\
    file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10 \
    file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302 \
"

inherit allarch

FAMILIAR_BUNDLE ??= ""
FAMILIAR_TRUST ??= ""

# nooelint: oelint.task.noanonpython - only an anonymous function can leave a recipe out of the build with a reason
python () {
    import os
    for variable, holds, what in (
        ("FAMILIAR_BUNDLE", "model.sig", "the folder of a signed model bundle"),
        ("FAMILIAR_TRUST", "", "the folder of the public keys that models are trusted by"),
    ):
        folder = d.getVar(variable)
        if not folder or not os.path.exists(os.path.join(folder, holds)):
            raise bb.parse.SkipRecipe("%s must name %s (make models makes both)" % (variable, what))
}

# Their content counts, not only their names.
do_install[file-checksums] += "${FAMILIAR_BUNDLE}:True ${FAMILIAR_TRUST}:True"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${datadir}/familiar/models/facenet ${D}${sysconfdir}/familiar/trust.d
    install -m 0644 ${FAMILIAR_BUNDLE}/* ${D}${datadir}/familiar/models/facenet/
    install -m 0644 ${FAMILIAR_TRUST}/*.pub ${D}${sysconfdir}/familiar/trust.d/
}

FILES:${PN} += "${datadir}/familiar ${sysconfdir}/familiar"
